//! The control socket against a file that takes its time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use qlink_io::handover::bell;
use qlink_pfcp::{ContentBinding, Request, decode_answer, encode_request};
use qlink_types::codec::Text;
use qlink_types::ids::ContentId;
use qlink_types::units::Bytes;

use super::*;
use crate::contents::Copy;
use crate::control::tests::control;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the slow file waits for.
static READ: Mutex<Option<Receiver<()>>> = Mutex::new(None);

fn slow(_: &ContentBinding) -> Result<Copy, Refusal> {
    let read = READ.lock().unwrap().take().unwrap();
    read.recv().unwrap();
    Ok(Copy::Owned(vec![6; 10].into()))
}

fn binding() -> ContentBinding {
    ContentBinding {
        content: ContentId::new(*blake3::hash(&[6; 10]).as_bytes()),
        size: Bytes::new(10),
        path: Text::try_from("slow").unwrap(),
    }
}

fn receive(socket: &SeqConn, patience: Duration) -> Option<(u32, Answer)> {
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    let length = socket.recv(&mut buffer, Some(patience)).unwrap()?;
    Some(decode_answer(&buffer[..length]).unwrap())
}

fn ask(socket: &SeqConn, sequence: u32, request: &Request) {
    socket
        .send(&encode_request(sequence, request).unwrap())
        .unwrap();
}

#[test]
fn a_file_that_is_being_read_keeps_only_who_asked_for_it_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let listener = SeqListener::bind(&path).unwrap();
    let (bell, sleeper) = bell().unwrap();
    let (read, waits) = channel();
    *READ.lock().unwrap() = Some(waits);
    let verifier = Verifier::start(bell, CONNECTIONS_MAX, slow).unwrap();
    let mut control = control(folder.path());
    let stop = AtomicBool::new(false);

    let (asker, other) = std::thread::scope(|scope| {
        let stopped = || stop.load(Ordering::Relaxed);
        let (control, listener) = (&mut control, &listener);
        let serving =
            scope.spawn(move || serve(listener, &sleeper, control, &verifier, &stopped).unwrap());
        let asker = SeqConn::connect(&path).unwrap();
        let other = SeqConn::connect(&path).unwrap();
        ask(&asker, 1, &Request::BindContent { binding: binding() });
        ask(&asker, 2, &Request::Hello);
        ask(&other, 7, &Request::Hello);

        let hello = receive(&other, PATIENCE).unwrap();
        assert!(matches!(hello, (7, Answer::Hello { .. })), "{hello:?}");
        assert_eq!(receive(&asker, Duration::ZERO), None);
        read.send(()).unwrap();

        let content = binding().content;
        let bound = receive(&asker, PATIENCE).unwrap();
        assert_eq!(bound, (1, Answer::Bound { content }));
        let hello = receive(&asker, PATIENCE).unwrap();
        assert!(matches!(hello, (2, Answer::Hello { .. })), "{hello:?}");
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap();
        (asker, other)
    });
    drop((asker, other));

    let kept = control.copies.get(&binding().content);
    assert!(matches!(kept, Some(Copy::Owned(_))), "{kept:?}");
}
