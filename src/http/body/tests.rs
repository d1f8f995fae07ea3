use super::*;
use std::collections::VecDeque;

/// Frames, each after a pause; then silence, or the end.
struct Slow {
    frames: VecDeque<(Duration, Bytes)>,
    ends: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some((pause, _)) = self.frames.front() else {
            return if self.ends {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        let pause = *pause;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        let (_, data) = self.frames.pop_front().unwrap();
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

fn slow(pieces: &[(u64, &'static str)], ends: bool) -> AnswerBody {
    AnswerBody::streamed(Slow {
        frames: pieces
            .iter()
            .map(|(pause, data)| {
                (
                    Duration::from_secs(*pause),
                    Bytes::from_static(data.as_bytes()),
                )
            })
            .collect(),
        ends,
        sleep: None,
    })
}

/// How a body said that it ended.
fn watched(body: &mut AnswerBody) -> Rc<Cell<Option<End>>> {
    let said = Rc::new(Cell::new(None));
    let to = Rc::clone(&said);
    body.on_end(move |end| {
        assert!(to.replace(Some(end)).is_none(), "it ends once");
    });
    said
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_once_however_it_comes() {
    for (make, whole) in [
        ((|| AnswerBody::empty()) as fn() -> AnswerBody, 0),
        (|| AnswerBody::full("abcde"), 5),
        (|| slow(&[(1, "ab"), (1, "cde")], true), 5),
    ] {
        let mut body = make();
        let said = watched(&mut body);
        let read = (&mut body).collect().await.unwrap().to_bytes();
        drop(body);
        let bytes = read.len() as u64;
        assert_eq!(bytes, whole);
        assert_eq!(
            said.get(),
            Some(End {
                bytes,
                complete: true
            })
        );
    }
    // A client that leaves in the middle.
    let mut body = slow(&[(1, "ab"), (1, "cde")], true);
    let said = watched(&mut body);
    assert!(body.frame().await.is_some());
    drop(body);
    assert_eq!(
        said.get(),
        Some(End {
            bytes: 2,
            complete: false
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token_whether_it_flows_or_stands() {
    for ends in [false, true] {
        let mut body = slow(&[(1, "a"), (2, "b"), (3, "c")], ends);
        let said = watched(&mut body);
        body.until(Instant::now() + Duration::from_secs(4));
        let began = Instant::now();
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err(), "its time is over");
        assert_eq!(began.elapsed(), Duration::from_secs(4));
        drop(body);
        assert_eq!(
            said.get(),
            Some(End {
                bytes: 2,
                complete: false
            })
        );
    }
    // One that is always ready is cut all the same.
    let mut body = slow(&[(0, "a"), (0, "b")], true);
    body.until(Instant::now());
    assert!(body.frame().await.unwrap().is_err());
    // What is here as a whole needs no deadline: it was decided while the token was good.
    let mut body = AnswerBody::full("abc");
    body.until(Instant::now());
    assert!(body.frame().await.unwrap().is_ok());
}
