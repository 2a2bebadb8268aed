//! cgroupsPath in systemd's terms: `SLICE:PREFIX:NAME` judged and turned into unit names.
//!
//! Pure: nothing here looks at the host or talks to systemd.

use crate::error::{Error, Result};

const ITEM: &str = "linux.cgroupsPath";
/// UNIT_NAME_MAX of systemd: the longest file name, less the byte at the end.
const LONGEST: usize = 255;

/// A unit and the slice that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitName {
    /// `docker-c1.scope`, or a name that ends with `.slice`.
    pub unit: String,
    /// `system.slice`; `-.slice` is the root.
    pub slice: String,
}

impl UnitName {
    /// Judges cgroupsPath for the systemd driver.
    ///
    /// Without a path the unit is `xebec-ID.scope`; without a slice it lies where systemd
    /// puts scopes: in system.slice, and of a user in user.slice, as in runc.
    pub fn plan(configured: Option<&str>, id: &str, user: bool) -> Result<UnitName> {
        let home = if user { "user.slice" } else { "system.slice" };
        let Some(path) = configured.filter(|path| !path.is_empty()) else {
            return UnitName { unit: format!("xebec-{}.scope", escape(id)), slice: home.to_owned() }.checked();
        };
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(Error::invalid(ITEM, format!("{path:?} found, SLICE:PREFIX:NAME expected for systemd"))
                .hint("a path such as /pods/c1 is for the cgroupfs driver"));
        };
        let unit = match (prefix, name) {
            (_, "") => return Err(Error::invalid(ITEM, format!("{path:?} has no name after the second colon"))),
            (_, name) if name.ends_with(".slice") => name.to_owned(),
            ("", name) => format!("{name}.scope"),
            (prefix, name) => format!("{prefix}-{name}.scope"),
        };
        let slice = match slice {
            "" => home,
            "-" => "-.slice",
            slice => slice,
        };
        UnitName { unit, slice: slice.to_owned() }.checked()
    }

    fn checked(self) -> Result<UnitName> {
        let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        for name in [&self.unit, &self.slice] {
            if let Some(wrong) = name.chars().find(|c| !valid(*c)) {
                return Err(Error::invalid(ITEM, format!("{name:?} holds {wrong:?}, which no name of a unit may")));
            }
            if name.len() > LONGEST {
                return Err(Error::invalid(ITEM, format!("{name:?} is longer than {LONGEST} bytes")));
            }
        }
        slice_path(&self.slice)?;
        if self.is_slice() {
            slice_path(&self.unit)?;
        }
        Ok(self)
    }

    /// Is the unit a slice, which holds no processes by systemd's rules and is given none by it?
    #[must_use]
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }

    /// The names of the unit's cgroup below the service manager's.
    ///
    /// The place of a slice is in its name alone (systemd.slice(5)).
    pub fn path(&self) -> Result<Vec<String>> {
        if self.is_slice() {
            return slice_path(&self.unit);
        }
        let mut names = slice_path(&self.slice)?;
        names.push(self.unit.clone());
        Ok(names)
    }
}

/// `a-b.slice` lies in `a.slice`: the cgroups from the top, of `-.slice` none.
fn slice_path(slice: &str) -> Result<Vec<String>> {
    let wrong = |what: &str| Error::invalid(ITEM, format!("{slice:?} {what}"));
    let Some(name) = slice.strip_suffix(".slice").filter(|name| !name.is_empty()) else {
        return Err(wrong("is not the name of a slice, such as machine.slice"));
    };
    if name == "-" {
        return Ok(Vec::new());
    }
    if name.split('-').any(str::is_empty) {
        return Err(wrong("has an empty part between dashes, each of which stands for a slice"));
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Ok(ends.map(|end| format!("{}.slice", &name[..end])).collect())
}

/// An id may hold a `+`, a unit's name only as systemd-escape(1) writes it.
fn escape(id: &str) -> String {
    id.replace('+', "\\x2b")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(path: Option<&str>, user: bool) -> String {
        let unit = UnitName::plan(path, "c+1", user);
        match unit.and_then(|unit| Ok((unit.path()?, unit))) {
            Ok((path, unit)) => format!("{} in {}: /{}", unit.unit, unit.slice, path.join("/")),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_cgroups_path_names_a_unit_and_its_place() {
        for (path, user, want) in [
            (None, false, r"xebec-c\x2b1.scope in system.slice: /system.slice/xebec-c\x2b1.scope"),
            (Some(""), true, r"xebec-c\x2b1.scope in user.slice: /user.slice/xebec-c\x2b1.scope"),
            (Some(":docker:abc"), false, "docker-abc.scope in system.slice: /system.slice/docker-abc.scope"),
            (Some("::abc"), false, "abc.scope in system.slice: /system.slice/abc.scope"),
            (
                Some("kubepods-besteffort-pod7.slice:cri-containerd:c"),
                false,
                "cri-containerd-c.scope in kubepods-besteffort-pod7.slice: /kubepods.slice/kubepods-besteffort.slice\
                 /kubepods-besteffort-pod7.slice/cri-containerd-c.scope",
            ),
            (Some("-.slice:p:c"), false, "p-c.scope in -.slice: /p-c.scope"),
            (Some("-:p:c"), false, "p-c.scope in -.slice: /p-c.scope"),
            (Some("machine.slice::a-b.slice"), false, "a-b.slice in machine.slice: /a.slice/a-b.slice"),
            (Some("m.slice:p:a@b_c.d"), false, "p-a@b_c.d.scope in m.slice: /m.slice/p-a@b_c.d.scope"),
        ] {
            assert_eq!(planned(path, user), want, "{path:?}");
        }
    }

    #[test]
    fn what_systemd_would_refuse_is_refused_here() {
        for (path, want) in [
            ("/a/b", "\"/a/b\" found, SLICE:PREFIX:NAME expected for systemd; hint: a path such as /pods/c1 is for"),
            ("a:b", "\"a:b\" found, SLICE:PREFIX:NAME expected"),
            ("a:b:c:d", "\"a:b:c:d\" found, SLICE:PREFIX:NAME expected"),
            ("m.slice:p:", "\"m.slice:p:\" has no name after the second colon"),
            ("m:p:c", "\"m\" is not the name of a slice, such as machine.slice"),
            (".slice:p:c", "\".slice\" is not the name of a slice"),
            ("a--b.slice:p:c", "\"a--b.slice\" has an empty part between dashes"),
            ("-a.slice:p:c", "\"-a.slice\" has an empty part between dashes"),
            ("::-a.slice", "\"-a.slice\" has an empty part between dashes"),
            ("a/b.slice:p:c", "\"a/b.slice\" holds '/', which no name of a unit may"),
            ("m.slice:p:..", "p-...scope"),
            ("m.slice:p:c d", "\"p-c d.scope\" holds ' ', which no name of a unit may"),
            ("m.slice:p:c\n", "\"p-c\\n.scope\" holds '\\n', which"),
            ("m.slice:p:ü", "\"p-ü.scope\" holds 'ü', which"),
        ] {
            let got = planned(Some(path), false);
            assert!(got.contains(want) && got.contains("slice"), "{path:?}: {got}");
        }
        assert!(planned(Some(&format!("::{}", "x".repeat(250))), false).contains("is longer than 255 bytes"));
    }
}
