//! `xebec exec`.

use xebec::Result;
use xebec::exec::{self, Request};

use super::args::{Exec, Global};
use super::log::Log;
use super::settings;

#[inline(never)]
pub fn run(global: &Global, log: &Log, args: Exec) -> Result<u8> {
    let options = settings::exec_options(global, &args)?;
    let id = settings::id(&args.id)?;
    let request = Request {
        process: args.process.as_deref().map(settings::absolute).transpose()?,
        args: args.command,
        cwd: args.cwd,
        env: args.env,
        tty: args.tty,
        user: args.user.map(|user| (user.uid, user.gid)),
        additional_gids: args.additional_gids,
        capabilities: args.cap,
        no_new_privileges: args.no_new_privs,
        process_label: args.process_label,
        apparmor: args.apparmor,
        cgroup: args.cgroup,
        ignore_paused: args.ignore_paused,
        detach: args.detach,
    };
    let executed = exec::exec(&id, &request, &options);
    settings::finish_timings(&options, log);
    let executed = executed?;
    log.warn(&executed.warnings);
    Ok(executed.status.unwrap_or(0) as u8)
}
