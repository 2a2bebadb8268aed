//! Words for a child's failure: the record's numbers, the same plan, one sentence.

use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::AsFd;

use crate::error::{Error, Kind};
use crate::init::wire::{self, Record};
use crate::plan::step::Step;
use crate::plan::{HookStep, Plan};
use crate::sys::Call;
use crate::sys::process::Child;

use super::hooks;

/// The error behind a record of the child.
pub fn child_failure(plan: &Plan, record: &Record) -> Error {
    if usize::from(record.step) == wire::BEFORE_STEPS {
        return Error::sys(plan.verb, record.fail.call.name(), record.fail.errno);
    }
    let Some(step) = plan.steps.get(usize::from(record.step)) else {
        return Error::new(Kind::System, plan.verb, "the child failed in a step that is not in the plan");
    };
    let hook = match step {
        Step::CreateContainerHook(n) => plan.hooks.create_container.get(*n),
        Step::StartContainerHook(n) => plan.hooks.start_container.get(*n),
        _ => None,
    };
    if let Some(hook) = hook {
        return hook_failure(hook, record);
    }
    let Record { index, fail, .. } = *record;
    if fail.call == Call::ParentGone {
        return Error::sys(step.item(plan), "the runtime ended before all was ready", fail.errno);
    }
    let error = Error::sys(step.item(plan), step.call_as_written(plan, fail.call, index), fail.errno);
    match record.detail() {
        [] => error,
        said => error.note(&format!("the kernel says: {}", String::from_utf8_lossy(said).trim())),
    }
}

fn hook_failure(hook: &HookStep, record: &Record) -> Error {
    match record.fail.call {
        Call::HookTimeout => hooks::timeout(hook),
        Call::HookStatus => hooks::failure(hook, i32::from(record.index), record.detail()),
        call => Error::sys(&hook.item, call.name(), record.fail.errno),
    }
}

/// The child died without a word: killed, most likely.
pub fn silent_death(verb: &str, child: &Child) -> Error {
    let ending = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let how = match ending {
        Ok(Some(status)) => match (status.terminating_signal(), status.exit_status()) {
            (Some(signal), _) => format!("it was killed by signal {signal}"),
            (None, Some(status)) => format!("it exited with status {status}"),
            (None, None) => "it is gone".to_owned(),
        },
        _ => "it is gone".to_owned(),
    };
    let killed = how.ends_with(" 9");
    let error = Error::new(Kind::System, verb, format!("the process ended before it was ready: {how}"));
    if killed { error.hint("is linux.resources.memory.limit too low, or did somebody kill it?") } else { error }
}
