//! The types of config.json, one for each object of runtime-spec 1.3.0 on Linux.
//!
//! Everything borrows from the file's text. Names are the specification's, in
//! snake case. Lists of known words (namespace types, capability names, mount
//! options ...) stay strings here: what an unknown word means differs from list
//! to list, and that judgement belongs to `config::check` and `plan`.
//! A JSON `null` is read as "absent", because engines written in Go emit it so.

use std::collections::BTreeMap;

use serde::de::Visitor;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize};

use super::Text;

/// Reads `null` as the type's default.
fn nullable<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Declares config objects. `must` properties are REQUIRED by the specification;
/// `may` properties are optional, and `null` counts as absent.
///
/// The derived code lands in an inherent `deserialize` (`remote = "Self"`), and
/// the trait goes through [`ObjectOnly`]: left alone, serde would also read a
/// JSON array as an object's properties in their order.
macro_rules! objects {
    ($($(#[$meta:meta])* $name:ident $(<$lt:lifetime>)? {
        $(must { $($(#[$mmeta:meta])* $must:ident: $mty:ty),* $(,)? })?
        $(may { $($(#[$ometa:meta])* $may:ident: $oty:ty),* $(,)? })?
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(rename_all = "camelCase", remote = "Self")]
        pub struct $name $(<$lt>)? {
            $($($(#[$mmeta])* pub $must: $mty,)*)?
            $($(#[serde(default, deserialize_with = "nullable")] $(#[$ometa])* pub $may: $oty,)*)?
        }

        impl<'de $(: $lt, $lt)?> Deserialize<'de> for $name $(<$lt>)? {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::deserialize(ObjectOnly(d))
            }
        }
    )*};
}

/// Lets a derived struct be read from a JSON object and from nothing else.
struct ObjectOnly<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A JSON object of strings.
pub type StringMap<'a> = BTreeMap<Text<'a>, Text<'a>>;

objects! {
    /// config.json (config.md).
    Config<'a> {
        must {
            #[serde(borrow)] oci_version: Text<'a>,
        }
        may {
            #[serde(borrow)] root: Option<Root<'a>>,
            #[serde(borrow)] mounts: Vec<Mount<'a>>,
            #[serde(borrow)] process: Option<Box<Process<'a>>>,
            #[serde(borrow)] hostname: Option<Text<'a>>,
            #[serde(borrow)] domainname: Option<Text<'a>>,
            #[serde(borrow)] hooks: Hooks<'a>,
            #[serde(borrow)] annotations: StringMap<'a>,
            #[serde(borrow)] linux: Box<Linux<'a>>,
        }
    }

    /// config.md, "Root".
    Root<'a> {
        must { #[serde(borrow)] path: Text<'a> }
        may { readonly: bool }
    }

    /// config.md, "Mounts".
    Mount<'a> {
        must { #[serde(borrow)] destination: Text<'a> }
        may {
            #[serde(borrow, rename = "type")] kind: Option<Text<'a>>,
            #[serde(borrow)] source: Option<Text<'a>>,
            #[serde(borrow)] options: Vec<Text<'a>>,
            uid_mappings: Vec<IdMapping>,
            gid_mappings: Vec<IdMapping>,
        }
    }

    /// One line of a uid_map or gid_map (user_namespaces(7)).
    #[derive(Copy, PartialEq, Eq)]
    IdMapping {
        must {
            #[serde(rename = "containerID")] container_id: u32,
            #[serde(rename = "hostID")] host_id: u32,
            size: u32,
        }
    }

    /// config.md, "Process". Also the whole of an exec's process.json.
    Process<'a> {
        must { #[serde(borrow)] cwd: Text<'a> }
        may {
            terminal: bool,
            console_size: Option<ConsoleSize>,
            user: User,
            #[serde(borrow)] args: Vec<Text<'a>>,
            #[serde(borrow)] env: Vec<Text<'a>>,
            #[serde(borrow)] capabilities: Option<Capabilities<'a>>,
            #[serde(borrow)] rlimits: Vec<Rlimit<'a>>,
            no_new_privileges: bool,
            #[serde(borrow)] apparmor_profile: Option<Text<'a>>,
            oom_score_adj: Option<i32>,
            #[serde(borrow)] scheduler: Option<Scheduler<'a>>,
            #[serde(borrow)] selinux_label: Option<Text<'a>>,
            #[serde(borrow)] io_priority: Option<IoPriority<'a>>,
            #[serde(borrow, rename = "execCPUAffinity")] exec_cpu_affinity: Option<ExecCpuAffinity<'a>>,
        }
    }

    /// Terminal size in characters.
    #[derive(Copy)]
    ConsoleSize {
        must { height: u64, width: u64 }
    }

    /// config.md, "User".
    #[derive(Default)]
    User {
        may {
            uid: u32,
            gid: u32,
            umask: Option<u32>,
            additional_gids: Vec<u32>,
        }
    }

    /// The five capability sets (capabilities(7)); an absent set means none.
    #[derive(Default)]
    Capabilities<'a> {
        may {
            #[serde(borrow)] bounding: Vec<Text<'a>>,
            #[serde(borrow)] effective: Vec<Text<'a>>,
            #[serde(borrow)] inheritable: Vec<Text<'a>>,
            #[serde(borrow)] permitted: Vec<Text<'a>>,
            #[serde(borrow)] ambient: Vec<Text<'a>>,
        }
    }

    /// getrlimit(2).
    Rlimit<'a> {
        must {
            #[serde(borrow, rename = "type")] kind: Text<'a>,
            soft: u64,
            hard: u64,
        }
    }

    /// sched_setattr(2); times in nanoseconds.
    Scheduler<'a> {
        must { #[serde(borrow)] policy: Text<'a> }
        may {
            nice: i32,
            priority: i32,
            #[serde(borrow)] flags: Vec<Text<'a>>,
            runtime: u64,
            deadline: u64,
            period: u64,
        }
    }

    /// ioprio_set(2).
    IoPriority<'a> {
        must { #[serde(borrow)] class: Text<'a> }
        may { priority: i32 }
    }

    /// CPU lists for exec, such as `0-3,7`.
    ExecCpuAffinity<'a> {
        may {
            #[serde(borrow)] initial: Option<Text<'a>>,
            #[serde(borrow, rename = "final")] final_: Option<Text<'a>>,
        }
    }

    /// config.md, "POSIX-platform Hooks".
    #[derive(Default)]
    Hooks<'a> {
        may {
            #[serde(borrow)] prestart: Vec<Hook<'a>>,
            #[serde(borrow)] create_runtime: Vec<Hook<'a>>,
            #[serde(borrow)] create_container: Vec<Hook<'a>>,
            #[serde(borrow)] start_container: Vec<Hook<'a>>,
            #[serde(borrow)] poststart: Vec<Hook<'a>>,
            #[serde(borrow)] poststop: Vec<Hook<'a>>,
        }
    }

    /// One hook; the timeout is in seconds.
    Hook<'a> {
        must { #[serde(borrow)] path: Text<'a> }
        may {
            #[serde(borrow)] args: Vec<Text<'a>>,
            #[serde(borrow)] env: Vec<Text<'a>>,
            timeout: Option<i64>,
        }
    }

    /// config-linux.md.
    #[derive(Default)]
    Linux<'a> {
        may {
            #[serde(borrow)] namespaces: Vec<Namespace<'a>>,
            uid_mappings: Vec<IdMapping>,
            gid_mappings: Vec<IdMapping>,
            #[serde(borrow)] time_offsets: BTreeMap<Text<'a>, TimeOffset>,
            #[serde(borrow)] devices: Vec<Device<'a>>,
            #[serde(borrow)] net_devices: BTreeMap<Text<'a>, NetDevice<'a>>,
            #[serde(borrow)] cgroups_path: Option<Text<'a>>,
            #[serde(borrow)] resources: Option<Box<Resources<'a>>>,
            #[serde(borrow)] intel_rdt: Option<IntelRdt<'a>>,
            #[serde(borrow)] memory_policy: Option<MemoryPolicy<'a>>,
            #[serde(borrow)] sysctl: StringMap<'a>,
            #[serde(borrow)] seccomp: Option<Box<xebec_seccomp::Profile<'a>>>,
            #[serde(borrow)] rootfs_propagation: Option<Text<'a>>,
            #[serde(borrow)] masked_paths: Vec<Text<'a>>,
            #[serde(borrow)] readonly_paths: Vec<Text<'a>>,
            #[serde(borrow)] mount_label: Option<Text<'a>>,
            #[serde(borrow)] personality: Option<Personality<'a>>,
        }
    }

    /// config-linux.md, "Namespaces".
    Namespace<'a> {
        must { #[serde(borrow, rename = "type")] kind: Text<'a> }
        may { #[serde(borrow)] path: Option<Text<'a>> }
    }

    /// time_namespaces(7): a clock's offset.
    #[derive(Copy, Default)]
    TimeOffset {
        may { secs: i64, nanosecs: u32 }
    }

    /// config-linux.md, "Devices".
    Device<'a> {
        must {
            #[serde(borrow, rename = "type")] kind: Text<'a>,
            #[serde(borrow)] path: Text<'a>,
        }
        may {
            major: Option<i64>,
            minor: Option<i64>,
            file_mode: Option<u32>,
            uid: Option<u32>,
            gid: Option<u32>,
        }
    }

    /// config-linux.md, "Network Devices".
    #[derive(Default)]
    NetDevice<'a> {
        may { #[serde(borrow)] name: Option<Text<'a>> }
    }

    /// config-linux.md, "Control groups". Also the whole of `update --resources`.
    #[derive(Default)]
    Resources<'a> {
        may {
            #[serde(borrow)] devices: Vec<DeviceCgroup<'a>>,
            memory: Option<Memory>,
            #[serde(borrow)] cpu: Option<Cpu<'a>>,
            pids: Option<Pids>,
            #[serde(rename = "blockIO")] block_io: Option<BlockIo>,
            #[serde(borrow)] hugepage_limits: Vec<HugepageLimit<'a>>,
            #[serde(borrow)] network: Option<Network<'a>>,
            #[serde(borrow)] rdma: BTreeMap<Text<'a>, Rdma>,
            #[serde(borrow)] unified: StringMap<'a>,
        }
    }

    /// One rule of the allowed device list.
    DeviceCgroup<'a> {
        must { allow: bool }
        may {
            #[serde(borrow, rename = "type")] kind: Option<Text<'a>>,
            major: Option<i64>,
            minor: Option<i64>,
            #[serde(borrow)] access: Option<Text<'a>>,
        }
    }

    /// Limits in bytes, -1 for unlimited.
    #[derive(Default, Copy)]
    Memory {
        may {
            limit: Option<i64>,
            reservation: Option<i64>,
            swap: Option<i64>,
            kernel: Option<i64>,
            #[serde(rename = "kernelTCP")] kernel_tcp: Option<i64>,
            swappiness: Option<u64>,
            #[serde(rename = "disableOOMKiller")] disable_oom_killer: Option<bool>,
            use_hierarchy: Option<bool>,
            check_before_update: Option<bool>,
        }
    }

    /// Times in microseconds.
    #[derive(Default)]
    Cpu<'a> {
        may {
            shares: Option<u64>,
            quota: Option<i64>,
            burst: Option<u64>,
            period: Option<u64>,
            realtime_runtime: Option<i64>,
            realtime_period: Option<u64>,
            #[serde(borrow)] cpus: Option<Text<'a>>,
            #[serde(borrow)] mems: Option<Text<'a>>,
            idle: Option<i64>,
        }
    }

    /// -1 for no limit; 0 is a limit, and in a config older than 1.3.0 none (`parse_config` makes it -1).
    #[derive(Default, Copy)]
    Pids {
        may { limit: Option<i64> }
    }

    /// config-linux.md, "Block IO".
    #[derive(Default)]
    BlockIo {
        may {
            weight: Option<u16>,
            leaf_weight: Option<u16>,
            weight_device: Vec<WeightDevice>,
            throttle_read_bps_device: Vec<ThrottleDevice>,
            throttle_write_bps_device: Vec<ThrottleDevice>,
            #[serde(rename = "throttleReadIOPSDevice")] throttle_read_iops_device: Vec<ThrottleDevice>,
            #[serde(rename = "throttleWriteIOPSDevice")] throttle_write_iops_device: Vec<ThrottleDevice>,
        }
    }

    /// Weight of one block device.
    #[derive(Copy)]
    WeightDevice {
        must { major: i64, minor: i64 }
        may { weight: Option<u16>, leaf_weight: Option<u16> }
    }

    /// Rate in bytes or operations a second.
    #[derive(Copy)]
    ThrottleDevice {
        must { major: i64, minor: i64, rate: u64 }
    }

    /// Limit in bytes for one page size, such as `2MB`.
    HugepageLimit<'a> {
        must {
            #[serde(borrow)] page_size: Text<'a>,
            limit: u64,
        }
    }

    /// net_cls and net_prio (cgroup v1).
    #[derive(Default)]
    Network<'a> {
        may {
            #[serde(rename = "classID")] class_id: Option<u32>,
            #[serde(borrow)] priorities: Vec<InterfacePriority<'a>>,
        }
    }

    /// One interface's priority.
    InterfacePriority<'a> {
        must {
            #[serde(borrow)] name: Text<'a>,
            priority: u32,
        }
    }

    /// Limits of one RDMA device.
    #[derive(Copy)]
    Rdma {
        may { hca_handles: Option<u32>, hca_objects: Option<u32> }
    }

    /// config-linux.md, "IntelRdt".
    #[derive(Default)]
    IntelRdt<'a> {
        may {
            #[serde(borrow, rename = "closID")] clos_id: Option<Text<'a>>,
            #[serde(borrow)] schemata: Vec<Text<'a>>,
            #[serde(borrow)] l3_cache_schema: Option<Text<'a>>,
            #[serde(borrow)] mem_bw_schema: Option<Text<'a>>,
            enable_monitoring: bool,
        }
    }

    /// set_mempolicy(2).
    MemoryPolicy<'a> {
        must { #[serde(borrow)] mode: Text<'a> }
        may {
            #[serde(borrow)] nodes: Option<Text<'a>>,
            #[serde(borrow)] flags: Vec<Text<'a>>,
        }
    }

    /// personality(2).
    Personality<'a> {
        must { #[serde(borrow)] domain: Text<'a> }
        may { #[serde(borrow)] flags: Vec<Text<'a>> }
    }
}

/// A hook as config.json would have it: for the state file, which keeps the
/// poststop hooks, and for nothing more.
impl Serialize for Hook<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut object = s.serialize_struct("Hook", 4)?;
        object.serialize_field("path", &self.path)?;
        object.serialize_field("args", &self.args)?;
        object.serialize_field("env", &self.env)?;
        object.serialize_field("timeout", &self.timeout)?;
        object.end()
    }
}
