//! What the stages of a running server share: where their events go, what is known of machines, and what is kept of it.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use rustix::rand::GetRandomFlags;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    clerk::Clerk,
    control::Running,
    plan::Plan,
    recorder::{Question, Recorder},
    sharing::{ANSWERS, Sharing},
};
use crate::{
    boot::{answer::Key, identity::MachineId, recent::Recent},
    dhcp::office::Office,
    http::app::{ADDRESSES, App},
    offers::attempts::Attempts,
    state::State,
    status::metrics::Metrics,
    timeline::event::Event,
};

/// See the module.
pub(super) struct Memory {
    /// To the recorder, which ends when every sender is gone.
    pub(super) events: mpsc::Sender<Event>,
    /// What machines have tried lately.
    pub(super) attempts: Arc<Mutex<Attempts>>,
    /// Signs the addresses of answer files and reports.
    pub(super) answer_key: Key,
    pub(super) metrics: Arc<Metrics>,
    clerk: Arc<Clerk>,
    sharing: Option<Arc<Sharing>>,
    questions: mpsc::Sender<Question>,
    /// The machines that were in the middle of a boot when the server before this one ended, and their addresses.
    under_way: Vec<(Ipv4Addr, MachineId)>,
    writers: Writers,
}

/// The tasks that write what is kept.
pub(super) struct Writers {
    recorder: JoinHandle<()>,
    keeper: JoinHandle<()>,
    sharing: Option<Exchanging>,
}

/// What tells the server of the state.
struct Exchanging {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Exchanging {
    fn start(sharing: Arc<Sharing>) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(sharing.run(stop.clone())), stop }
    }
}

impl Memory {
    /// Starts the recorder, and the clerk, who is the only writer of the state.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub(super) async fn start(
        plan: &Plan,
        state: Option<State>,
        sharing: Option<Arc<Sharing>>,
        attempts: Arc<Mutex<Attempts>>,
    ) -> io::Result<Self> {
        let (events, received) = mpsc::channel(EVENTS);
        let signs_answers = {
            let rules = plan.live.rules.load();
            !rules.answers.open && !rules.templates.answers().is_empty()
        };
        let answer_key = answer_key(state.as_ref(), sharing.as_deref(), signs_answers).await?;
        if let Some(sharing) = &sharing {
            sharing.share_key(answer_key.clone());
        }
        let (clerk, learned, timelines) = Clerk::new(state, sharing.clone(), plan.live.clone()).await;
        {
            let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
            learned.into_iter().for_each(|(key, learned)| attempts.know(key, learned));
        }
        let under_way = timelines.under_way(SystemTime::now().into()).collect();
        let clerk = Arc::new(clerk);
        plan.live.is_kept.store(clerk.keeps(), Ordering::Relaxed);
        let (to_keep, kept) = mpsc::channel(EVENTS);
        let (questions, asked) = mpsc::channel(16);
        let metrics = Arc::new(Metrics::default());
        // A reload leaves them as they are.
        let strangers = plan.live.rules.load().strangers.clone();
        let recorder = Recorder::new(attempts.clone(), strangers, to_keep, timelines, metrics.clone());
        let recorder = tokio::spawn(recorder.record(received, asked));
        let keeper = tokio::spawn(clerk.clone().keep(kept));
        let writers = Writers { recorder, keeper, sharing: sharing.clone().map(Exchanging::start) };
        Ok(Self { events, attempts, answer_key, metrics, clerk, sharing, questions, under_way, writers })
    }

    /// What the API asks.
    pub(super) fn server(&self, plan: &Plan, office: Option<Arc<Office>>) -> Arc<Running> {
        Arc::new(Running {
            clerk: self.clerk.clone(),
            sharing: self.sharing.clone(),
            recorder: self.questions.clone(),
            attempts: self.attempts.clone(),
            office,
            interfaces: plan.interfaces.iter().map(|interface| interface.name.clone()).collect(),
        })
    }

    /// What the routes of the HTTP stage share.
    pub(super) fn http_app(&self, plan: &Plan) -> Arc<App> {
        let now = Instant::now();
        let mut scripts: Recent<_, Vec<_>> = Recent::new(ADDRESSES);
        self.under_way.iter().for_each(|(address, machine)| scripts.touch(*address).push((*machine, now)));
        Arc::new(App {
            scripts: Mutex::new(scripts),
            live: plan.live.clone(),
            assets: plan.fixed.assets.clone(),
            listing: plan.fixed.http.listing,
            base_url: plan.fixed.http.base_url.clone(),
            interfaces: ArcSwap::default(),
            started: SystemTime::now(),
            began: Instant::now(),
            clock: Mutex::default(),
            attempts: self.attempts.clone(),
            answer_key: self.answer_key.clone(),
            is_ready: AtomicBool::new(true),
            events: self.events.clone(),
        })
    }

    /// Leaves events to the stages: when these have ended, so does the recorder.
    pub(super) fn into_writers(self) -> Writers {
        self.writers
    }
}

impl Writers {
    /// Waits for a moment until what was seen is written. Every sender of events is gone by then.
    pub(super) async fn end(self) {
        let both = async { tokio::join!(self.recorder, self.keeper) };
        let _ = tokio::time::timeout(Duration::from_secs(1), both).await;
        if let Some(Exchanging { task, stop }) = self.sharing {
            stop.cancel();
            let _ = tokio::time::timeout(LAST_EXCHANGE, task).await;
        }
    }
}

/// Made once and kept: machines that are installing come back for their answers also after a restart.
async fn answer_key(state: Option<&State>, sharing: Option<&Sharing>, signs_answers: bool) -> io::Result<Key> {
    let mut fresh = [0; Key::LENGTH];
    // Bytes of the kernel's generator, which are all there when it has been seeded (getrandom(2), up to 256 bytes).
    rustix::rand::getrandom(&mut fresh, GetRandomFlags::empty())?;
    let kept = match (sharing, state) {
        (Some(sharing), _) => Some(sharing.last_secret(ANSWERS, &fresh).await),
        (None, Some(state)) => Some(state.secret(ANSWERS, &fresh).await),
        (None, None) => None,
    };
    let Some(kept) = kept else {
        if signs_answers {
            warn!(
                "there is no state, so the addresses of answer files will not outlive a restart: name one with state.url"
            );
        }
        return Ok(Key::new(fresh));
    };
    let kept = kept
        .map_err(|error| error.to_string())
        .and_then(|kept| <[u8; Key::LENGTH]>::try_from(kept).map_err(|kept| format!("it has {} bytes", kept.len())));
    Ok(Key::new(kept.unwrap_or_else(|error| {
        warn!("the key of answer files could not be kept, and their addresses will not outlive a restart: {error}");
        fresh
    })))
}

/// For the last exchange with a server that may not answer.
const LAST_EXCHANGE: Duration = Duration::from_secs(3);
/// Events that wait for the recorder; beyond it they are dropped, since no client must wait for a log line.
const EVENTS: usize = 16_384;
