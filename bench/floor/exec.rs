//! A further process in a running container.

use core::convert::Infallible;

use crate::container::{self, Container};
use crate::sys::{self, Fd};
use crate::{At, Failed, Order, child};

pub fn exec(order: &Order) -> Result<i32, Failed> {
    const ALL: u64 = u64::MAX;
    crate::protect(order)?;
    let filter = container::read_filter(order)?;
    let Some((_, init)) = Container::open(order)?.living_init()? else { return Err(Failed(160)) };
    let cgroup = sys::openat(sys::CWD, order.must("cgroup")?, sys::RDONLY | sys::DIRECTORY, 0).at(161)?;
    sys::sigprocmask(0, ALL).at(162)?;
    let signals = sys::signalfd(ALL).at(163)?;
    // A pid namespace is entered by children only: the next one is born there.
    sys::setns(init, sys::NEWPID).at(164)?;
    let Some((_, pidfd)) = sys::clone3(0, cgroup).at(165)? else {
        let Err(Failed(step)) = enter(order, init, filter);
        sys::exit(step);
    };
    crate::forward_until_the_end(pidfd, signals)?;
    let (code, status) = sys::wait(pidfd).at(166)?;
    Ok(if code == 1 { status } else { 128 + status })
}

fn enter(order: &Order, init: Fd, filter: &[u8]) -> Result<Infallible, Failed> {
    const KILL: usize = 9;
    sys::prctl(1, KILL).at(167)?; // PR_SET_PDEATHSIG
    sys::prctl(4, 0).at(168)?; // PR_SET_DUMPABLE, before anything in there can see us
    if init.0 > 3 {
        sys::close_range(3, init.0 as u32 - 1, false).at(169)?;
    }
    sys::close_range(init.0 as u32 + 1, u32::MAX, false).at(170)?;
    sys::sigprocmask(2, 0).at(171)?;
    sys::setns(init, order.namespaces() & !sys::NEWPID).at(172)?;
    if order.get("userns").is_some() {
        sys::become_root().at(173)?;
    }
    sys::close(init).at(174)?;
    sys::setsid().at(175)?;
    sys::chdir(c"/").at(176)?;
    child::become_the_program()?;
    sys::prctl(1, 0).at(177)?;
    child::execute(filter, c"/exit")
}
