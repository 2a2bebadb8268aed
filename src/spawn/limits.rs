//! Hard limits that a child in a user namespace could not raise: that takes CAP_SYS_RESOURCE in the initial one
//! (setrlimit(2)), whoever one is in another.

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::step::Step;
use crate::sys::settings::{getrlimit, prlimit};

/// Our own hard limits, raised for the child to inherit; dropped, they are what they were.
/// What another thread of a caller's program starts meanwhile inherits them too; soft limits stay.
#[derive(Default)]
pub struct Raised {
    /// Resource, soft and hard limit.
    before: Vec<(u32, u64, u64)>,
}

impl Raised {
    /// Raises what the plan has above our own; the child then sets its limits itself, late, when it needs less.
    ///
    /// # Errors
    /// We may not either.
    pub fn for_child(plan: &Plan, in_user_namespace: bool) -> Result<Raised> {
        let mut raised = Raised::default();
        for step in plan.steps.iter().filter(|_| in_user_namespace) {
            let Step::Rlimit { name, resource, hard, .. } = step else { continue };
            let failed = |call: String, errno| Error::sys(step.item(plan), call, errno);
            let (soft, own) = getrlimit(*resource).map_err(|errno| failed(format!("prlimit({name})"), errno))?;
            if *hard > own {
                prlimit(*resource, soft, *hard)
                    .map_err(|errno| failed(format!("prlimit({name}, {soft}, {hard})"), errno))?;
                raised.before.push((*resource, soft, own));
            }
        }
        Ok(raised)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        for (resource, soft, hard) in self.before.iter().rev() {
            // Lowering is always allowed; were it not, we would only have a limit more than before.
            prlimit(*resource, *soft, *hard).ok();
        }
    }
}
