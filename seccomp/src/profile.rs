//! `linux.seccomp` of a bundle's config.json as it is written (runtime-spec
//! 1.3.0, config-linux.md, Seccomp). Types only: what the words mean and
//! whether they are right is decided in `parse`.
//!
//! Go's encoder writes null for an empty list or map it was not told to omit;
//! null is therefore the same as absent everywhere. Words this crate does not
//! know are kept, so that one pass reports them all.

use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::ops::Deref;

/// A string of the config, borrowed from its text unless it holds an escape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Text(Cow::Borrowed(text))
    }
}

/// The object `linux.seccomp`.
///
/// ```
/// let json = r#"{ "defaultAction": "SCMP_ACT_ERRNO",
///                 "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }] }"#;
/// let profile: xebec_seccomp::Profile = serde_json::from_str(json)?;
/// assert!(profile.check().is_empty());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct Profile<'a> {
    /// What happens to a call no rule matches. Required.
    #[serde(borrow, default)]
    pub default_action: Option<Text<'a>>,
    /// The errno (or tracer's message) of the default action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u64>,
    /// ABIs besides the native one that may be used, as `SCMP_ARCH_*`.
    #[serde(borrow, default, deserialize_with = "or_null")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Text<'a>>,
    /// `SECCOMP_FILTER_FLAG_*`. Absent and empty differ for
    /// [`Options::absent_flags`](crate::Options::absent_flags).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<Text<'a>>>,
    /// Socket of the agent that answers `SCMP_ACT_NOTIFY`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<Text<'a>>,
    /// Opaque words for that agent.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<Text<'a>>,
    /// The rules.
    #[serde(borrow, default, deserialize_with = "or_null")]
    pub syscalls: Vec<Rule<'a>>,
}

/// One element of `syscalls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct Rule<'a> {
    /// Names of system calls; at least one.
    #[serde(borrow, default, deserialize_with = "or_null")]
    pub names: Vec<Text<'a>>,
    /// What happens to them. Required.
    #[serde(borrow, default)]
    pub action: Option<Text<'a>>,
    /// The errno (or tracer's message) of the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u64>,
    /// Conditions on arguments, all of which must hold; but where one index
    /// comes twice, each condition is a rule of its own (as runc and crun do).
    #[serde(borrow, default, deserialize_with = "or_null")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg<'a>>,
}

/// One element of `syscalls[].args`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct Arg<'a> {
    /// Which argument, 0 to 5. Required.
    #[serde(default)]
    pub index: Option<u64>,
    /// What it is compared with; the mask of `SCMP_CMP_MASKED_EQ`. Required.
    #[serde(default)]
    pub value: Option<u64>,
    /// What the masked argument is compared with; other operators ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_two: Option<u64>,
    /// How, as `SCMP_CMP_*`. Required.
    #[serde(borrow, default)]
    pub op: Option<Text<'a>>,
}

fn or_null<'de, D, T>(input: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(input)?.unwrap_or_default())
}

/// A JSON object and nothing else: left alone, serde would also read an array
/// as an object's properties in their order. The derived code is an inherent
/// function (`remote = "Self"`), and the trait goes through [`ObjectOnly`].
macro_rules! object_only {
    ($($name:ident),*) => {$(
        impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                Self::deserialize(ObjectOnly(input))
            }
        }

        impl Serialize for $name<'_> {
            fn serialize<S: serde::Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, output)
            }
        }
    )*};
}

object_only!(Profile, Rule, Arg);

struct ObjectOnly<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
