//! Follows the assets folder and the files that profiles name: what was missing and comes is served without a restart,
//! and what goes is reported.

use std::{io, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    boot::{
        faults::{Files, Wanted, faults},
        live::Live,
        profile::{Boot, ProfileFault},
        reason::Reason,
        template::Templates,
    },
    files::{AssetRoot, Followed},
};

/// The profiles that cannot boot now.
pub(super) fn look(live: &Live, assets: Option<&AssetRoot>) -> Vec<ProfileFault> {
    faults(&live.rules.load(), Files(&|name, wanted| look_for(name, wanted, assets)))
}

/// Why something cannot boot now.
pub(super) fn of(boot: &Boot, templates: &Templates, assets: Option<&AssetRoot>) -> Option<String> {
    Files(&|name, wanted| look_for(name, wanted, assets)).look_at(boot, templates, None).err()
}

fn look_for(name: &str, wanted: Wanted, assets: Option<&AssetRoot>) -> Result<(), Reason> {
    assets.ok_or_else(|| Reason::not_found(name)).and_then(|assets| assets.look(name, wanted))
}

/// Looks what the name of the assets folder leads to now, and says where that has changed.
pub(super) fn follow_folder(assets: &AssetRoot, is_sandboxed: bool, lost: &mut Option<String>) {
    let problem = match assets.follow() {
        Followed::Same => None,
        Followed::Other(path) => {
            info!("the assets folder {} leads to {} now, which is served", assets.named().display(), path.display());
            None
        }
        Followed::Lost(error) => {
            let fix = match error.kind() {
                io::ErrorKind::PermissionDenied if is_sandboxed => {
                    ": a sandboxed netbootd reads only the folders that it was started with, so restart it"
                }
                _ => "",
            };
            Some(format!("{error}{fix}"))
        }
    };
    if problem != *lost {
        match &problem {
            Some(problem) => warn!("the assets folder {} cannot be used: {problem}", assets.named().display()),
            None => info!("the assets folder {} is there", assets.named().display()),
        }
        *lost = problem;
    }
}

/// Follows until dropped.
pub(super) async fn follow(live: Arc<Live>, assets: Option<Arc<AssetRoot>>, is_sandboxed: bool) {
    let mut lost = None;
    loop {
        sleep(LOOK_AGAIN).await;
        let (seen, folder) = (live.clone(), assets.clone());
        // A file system on a network may let the look wait.
        let looked = tokio::task::spawn_blocking(move || {
            if let Some(assets) = &folder {
                follow_folder(assets, is_sandboxed, &mut lost);
            }
            (look(&seen, folder.as_deref()), lost)
        });
        let Ok((now, still_lost)) = looked.await else {
            // A bug, of which the log has the place. To return would stop the server.
            lost = None;
            continue;
        };
        lost = still_lost;
        let before = live.faults.swap(Arc::new(now.clone()));
        for fault in now.iter().filter(|fault| !before.contains(fault)) {
            warn!("{fault}");
        }
        let is_whole = |profile: &str| now.iter().all(|fault| fault.profile != profile);
        let mut fixed: Vec<&str> = before.iter().map(|fault| fault.profile.as_str()).collect();
        fixed.dedup();
        let rules = live.rules.load();
        for profile in fixed.into_iter().filter(|name| is_whole(name) && rules.profiles.contains_key(*name)) {
            info!("profile {profile} can boot now");
        }
    }
}

/// Until a file that has come is reported; it is served from its first moment on.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
