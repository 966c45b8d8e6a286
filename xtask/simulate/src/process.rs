//! Futures that live and die like the threads of one process: killed together at whatever await they stand, or
//! frozen and let go on.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// A process, while it lives.
#[derive(Clone, Default)]
pub(crate) struct Process(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    threads: Vec<Rc<RefCell<Thread>>>,
    is_dead: bool,
    is_frozen: bool,
    panic: Option<String>,
}

#[derive(Default)]
struct Thread {
    /// `None` while it is polled, and once it has ended.
    work: Option<Work>,
    waker: Option<Waker>,
}

impl Process {
    /// Runs `work` as a part of it, until it ends or the process is killed.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        let mut state = self.0.borrow_mut();
        if state.is_dead {
            return;
        }
        let thread = Rc::new(RefCell::new(Thread { work: Some(Box::pin(work)), waker: None }));
        state.threads.retain(|thread| thread.borrow().waker.is_some() || thread.borrow().work.is_some());
        state.threads.push(thread.clone());
        drop(state);
        tokio::task::spawn_local(Run { process: self.clone(), thread });
    }

    /// It is gone at once, whatever it was doing.
    pub(crate) fn kill(&self) {
        let threads = {
            let mut state = self.0.borrow_mut();
            state.is_dead = true;
            std::mem::take(&mut state.threads)
        };
        for thread in threads {
            let (work, waker) = {
                let mut thread = thread.borrow_mut();
                (thread.work.take(), thread.waker.take())
            };
            drop(work);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// All parts but the first end.
    pub(crate) fn end_all_but_first(&self) {
        let others: Vec<_> = self.0.borrow_mut().threads.drain(1..).collect();
        for thread in others {
            let work = thread.borrow_mut().work.take();
            drop(work);
        }
    }

    /// It does nothing from now on, until [`Process::thaw`].
    pub(crate) fn freeze(&self) {
        self.0.borrow_mut().is_frozen = true;
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        let mut state = self.0.borrow_mut();
        state.is_frozen = false;
        let wakers: Vec<_> =
            state.threads.iter().filter_map(|thread| thread.borrow_mut().waker.clone()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Was it killed?
    pub(crate) fn is_dead(&self) -> bool {
        self.0.borrow().is_dead
    }

    /// What a part of it panicked with, if one did.
    pub(crate) fn panic(&self) -> Option<String> {
        self.0.borrow().panic.clone()
    }
}

/// Polls a part of a process.
struct Run {
    process: Process,
    thread: Rc<RefCell<Thread>>,
}

impl Future for Run {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { process, thread } = &*self;
        if process.is_dead() {
            return Poll::Ready(());
        }
        thread.borrow_mut().waker = Some(context.waker().clone());
        if process.0.borrow().is_frozen {
            return Poll::Pending;
        }
        let Some(mut work) = thread.borrow_mut().work.take() else { return Poll::Ready(()) };
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) if !process.is_dead() => {
                thread.borrow_mut().work = Some(work);
                return Poll::Pending;
            }
            Ok(_) => {}
            Err(panic) => process.0.borrow_mut().panic = Some(text(&*panic)),
        }
        thread.borrow_mut().waker = None;
        Poll::Ready(())
    }
}

/// What a panic says.
pub(crate) fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text").to_owned()
}
