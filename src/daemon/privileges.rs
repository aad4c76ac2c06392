//! Who the server is once its ports are open: an unprivileged user where there is one to be, with the capabilities that
//! it needs as long as it runs, and no way to more.
//!
//! All of this is the calling thread's and that of threads which it starts later: there must be no others yet.

use std::{
    fmt, fs, io,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl User {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    pub(super) fn gid(&self) -> u32 {
        self.gid
    }

    #[cfg(test)]
    pub(super) fn sample(name: &str, uid: u32, gid: u32) -> Self {
        Self { name: name.into(), uid, gid }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} (uid {})", self.name, self.uid)
    }
}

/// Why privileges were not given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Of `--user`.
    #[error("there is no user {0} in /etc/passwd: make it with useradd --system {0}, or name another one with --user")]
    NoUser(String),
    /// Of `--user`.
    #[error("only root can become the user {0}: leave --user out, or use sudo")]
    NotRoot(String),
    /// A system call.
    #[error("{0}: {1}; --no-sandbox starts without it")]
    System(&'static str, #[source] io::Error),
}

/// Whom a server becomes: the user that is named; else, where root started it, the packages' user where there is one. To
/// be root still, root is named.
///
/// # Errors
/// The user that is named is not there, or is not ours to become.
pub fn whom(named: Option<&str>) -> Result<Option<User>, PrivilegeError> {
    let is_root = geteuid().is_root();
    match named {
        Some(name) => {
            let user = lookup(name).ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))?;
            match user.uid == geteuid().as_raw() {
                true => Ok(None),
                false if is_root => Ok(Some(user)),
                false => Err(PrivilegeError::NotRoot(name.to_owned())),
            }
        }
        // The root of a container often may not become anyone.
        None => Ok((is_root && may_change_user()).then(|| lookup(SERVICE_USER)).flatten()),
    }
}

/// Sees the host as another user does, in the calling thread: with its groups, and without root's capabilities.
///
/// # Errors
/// There is no such user, or only root can.
pub fn see_as(name: &str) -> Result<(), PrivilegeError> {
    let user = lookup(name).ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))?;
    if user.uid == geteuid().as_raw() {
        return Ok(());
    }
    if !geteuid().is_root() || !may_change_user() {
        return Err(PrivilegeError::NotRoot(name.to_owned()));
    }
    let failed = |what| move |errno: rustix::io::Errno| PrivilegeError::System(what, errno.into());
    let groups = groups_in(&fs::read_to_string("/etc/group").unwrap_or_default(), name);
    set_thread_groups(&groups.into_iter().map(Gid::from_raw).collect::<Vec<_>>()).map_err(failed("setgroups"))?;
    let (gid, uid) = (Gid::from_raw(user.gid), Uid::from_raw(user.uid));
    set_thread_res_gid(gid, gid, gid).map_err(failed("setresgid"))?;
    // With it go the capabilities (capabilities(7)).
    set_thread_res_uid(uid, uid, uid).map_err(failed("setresuid"))
}

/// The user that the packages' service runs as, where there is one and we may look as it does.
#[must_use]
pub fn service_user() -> Option<&'static str> {
    (geteuid().is_root() && may_change_user() && lookup(SERVICE_USER).is_some()).then_some(SERVICE_USER)
}

/// group(5): `name:password:GID:USER,USER…`
fn groups_in(group: &str, user: &str) -> Vec<u32> {
    let lines = group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let number = fields.nth(2)?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == user).then_some(number)
    });
    lines.collect()
}

fn may_change_user() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// From the file itself: system users are in it, and what else a host may have (LDAP) needs libraries that a static
/// program cannot load.
fn lookup(name: &str) -> Option<User> {
    user_in(&fs::read_to_string("/etc/passwd").ok()?, name)
}

/// passwd(5): `name:password:UID:GID:…`
fn user_in(passwd: &str, name: &str) -> Option<User> {
    let mut fields = passwd.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let is_it = fields.next() == Some(name);
        is_it.then_some(fields)
    })?;
    Some(User { name: name.to_owned(), uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

/// Makes the folder of the control socket, where it is not there, the user's: later there is no right to.
pub(super) fn hand_over(folder: &Path, user: Option<&User>) {
    let is_new = !folder.exists() && fs::create_dir_all(folder).is_ok();
    if let Some(user) = user
        && (is_new || folder == Path::new(CONTROL_FOLDER))
    {
        // Where it fails, opening the socket says so.
        let _ = chown(PathBuf::from(folder), Some(user.uid), Some(user.gid));
    }
}

/// Becomes the user, gives up every capability but [`KEPT`], and bars the way to more.
///
/// # Errors
/// The first system call that failed: what was given up until then is gone.
pub fn give_up(user: Option<&User>) -> Result<(), PrivilegeError> {
    let failed = |what| move |errno: rustix::io::Errno| PrivilegeError::System(what, errno.into());
    let before = capabilities(None).map_err(failed("capget"))?;
    if before.effective.contains(CapabilitySet::SETPCAP) {
        bound().map_err(failed("the bounding set"))?;
    }
    if let Some(user) = user {
        set_keep_capabilities(true).map_err(failed("PR_SET_KEEPCAPS"))?;
        set_thread_groups(&[]).map_err(failed("setgroups"))?;
        let (gid, uid) = (Gid::from_raw(user.gid), Uid::from_raw(user.uid));
        set_thread_res_gid(gid, gid, gid).map_err(failed("setresgid"))?;
        set_thread_res_uid(uid, uid, uid).map_err(failed("setresuid"))?;
        set_keep_capabilities(false).map_err(failed("PR_SET_KEEPCAPS"))?;
    }
    // A service has them already, and its filter of system calls need not know capset(2).
    let kept = before.permitted & KEPT;
    if user.is_some() || before.permitted != kept {
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets).map_err(failed("capset"))?;
    }
    set_no_new_privs(true).map_err(failed("PR_SET_NO_NEW_PRIVS"))
}

fn bound() -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !KEPT.contains(capability) => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            // The kernel knows no more.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Interfaces and addresses come while it runs: ports below 1024 and frames are needed then as at the start. A root that
/// serves files which only root may read goes on doing so: an initrd often is one, and the sandbox bounds which.
const KEPT: CapabilitySet =
    CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW).union(CapabilitySet::DAC_READ_SEARCH);
/// As the packages make it.
const SERVICE_USER: &str = "netbootd";
/// Where the configuration has the control socket if nothing else is said.
const CONTROL_FOLDER: &str = "/run/netbootd";

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, thread};

    use rustix::thread::{no_new_privs, set_thread_uid};

    use super::*;

    #[test]
    fn users_are_found_in_the_hosts_file() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nnetbootd2:x:5:6::/:/x\nnetbootd:x:998:997::/var/lib/netbootd:/x\n";
        let user = User { name: "netbootd".into(), uid: 998, gid: 997 };
        assert_eq!(user.to_string(), "user netbootd (uid 998)");
        assert_eq!(user_in(passwd, "netbootd"), Some(user));
        let group = "root:x:0:\nadm:x:4:syslog,netbootd\nnetboot:x:5:netbootd2\nsrv:x:77:netbootd\n";
        assert_eq!(groups_in(group, "netbootd"), [4, 77]);
        assert_eq!(user_in(passwd, "netboot"), None);
        assert_eq!(user_in("netbootd:x:many:997::/:/x\n", "netbootd"), None);
        let nobody = whom(Some("no-such-user")).expect_err("there is none");
        assert!(nobody.to_string().starts_with("there is no user no-such-user"), "{nobody}");
    }

    /// Of a thread of its own: what it gives up, the other tests keep.
    fn aside<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        geteuid().is_root().then(|| thread::spawn(test).join().expect("no panic"))
    }

    #[test]
    fn root_becomes_the_user_keeps_what_it_needs_and_cannot_go_back() {
        aside(|| {
            let nobody = User { name: "nobody".into(), uid: 65_534, gid: 65_534 };
            give_up(Some(&nobody)).expect("given up");
            let now = capabilities(None).expect("read");
            assert_eq!((now.permitted, now.effective, now.inheritable), (KEPT, KEPT, CapabilitySet::empty()));
            assert!(no_new_privs().expect("read"));
            assert!(set_thread_uid(Uid::ROOT).is_err(), "it came back");
            assert_eq!(capability_is_in_bounding_set(CapabilitySet::SYS_ADMIN), Ok(false));
            assert_eq!(capability_is_in_bounding_set(CapabilitySet::NET_RAW), Ok(true));
            let made = tempfile::tempdir().expect("everyone's folder");
            assert!(fs::write("/etc/netbootd-was-here", "").is_err());
            assert!(fs::read("/etc/shadow").is_ok(), "files of root can be served: the sandbox bounds which");
            assert!(UdpSocket::bind("127.0.0.1:99").is_ok(), "low ports are for later too");
            drop(made);
        });
    }

    #[test]
    fn root_that_stays_root_has_no_more_than_it_needs() {
        aside(|| {
            assert!(may_change_user());
            give_up(None).expect("given up");
            assert!(!may_change_user());
            let now = capabilities(None).expect("read");
            assert_eq!((now.permitted, now.effective), (KEPT, KEPT));
            give_up(None).expect("a second time changes nothing");
        });
    }
}
