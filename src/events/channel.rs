//! A Redis channel. It keeps nothing, so whenever this larder begins to listen to it, all that could have been said before
//! is purged; every replica listens, and purges what it hears.

use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use super::{BATCH, Source};
use crate::config::EventKind;
use crate::policy::content::Content;
use crate::policy::event::{MAX_EVENT, Meaning};
use crate::store::Heard;

/// Until told to stop.
pub async fn follow(source: &Source, mut stopping: watch::Receiver<bool>) {
    let (Some(feed), EventKind::PubSub { channel, .. }) = (&source.feed, &source.settings.kind) else {
        return;
    };
    let mut heard = feed.listen(channel.clone());
    loop {
        let heard_now = tokio::select! {
            heard = next(&mut heard) => heard,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        take(source, heard_now).await;
    }
}

/// What is there, messages together.
async fn next(heard: &mut Receiver<Heard>) -> Vec<Heard> {
    let mut all = Vec::new();
    heard.recv_many(&mut all, BATCH).await;
    all
}

/// A purge that the store did not take holds here, and waits for it; should larder end meanwhile, the next one purges all
/// that could have been said.
async fn take(source: &Source, heard: Vec<Heard>) {
    let (mut targets, mut meanings) = (Vec::new(), Vec::new());
    for heard in heard {
        match heard {
            Heard::Contact => source.figures.contact(),
            Heard::Deaf(reason) => source.trouble(&reason),
            Heard::Begun => {
                let _ = source.purge_everything("it is listened to from now on").await;
                source.figures.contact();
            }
            Heard::Message(message) => {
                let event = Content::of_event(&message, MAX_EVENT).ok();
                meanings.push(source.apply(event.as_ref(), &mut targets));
            }
        }
    }
    let _ = source.purge(targets).await;
    for meaning in meanings {
        source.figures.event(meaning, source.hub.clock.now(), None);
        if meaning == Meaning::Malformed {
            tracing::warn!(
                source = source.settings.name,
                "an event can't be read: all it could name is purged"
            );
        }
    }
}
