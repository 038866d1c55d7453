//! Descriptors kept open for reads, the least recently used closed first (storage rule 23).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::storage::{File, Open, Storage};

pub(super) struct OpenFiles {
    storage: Rc<dyn Storage>,
    max: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    files: HashMap<PathBuf, (u64, Rc<dyn File>)>,
    clock: u64,
    /// Counts what was forgotten: a file opened meanwhile may be one of those.
    forgotten: u64,
}

impl OpenFiles {
    pub(super) fn new(storage: Rc<dyn Storage>, max: usize) -> OpenFiles {
        OpenFiles { storage, max, state: RefCell::default() }
    }

    pub(super) async fn get(&self, path: &Path) -> io::Result<Rc<dyn File>> {
        if let Some(file) = self.known(path) {
            return Ok(file);
        }
        let forgotten = self.state.borrow().forgotten;
        let file = self.storage.open(path, Open::Read).await?;
        if self.state.borrow().forgotten != forgotten {
            return Ok(file);
        }
        let evicted = self.insert(path, Rc::clone(&file));
        if let Some(evicted) = evicted {
            // Not awaited: meanwhile this file might be the oldest, and closed under whoever asked for it.
            self.storage.spawn(Box::pin(async move {
                if let Err(error) = evicted.close().await {
                    tracing::warn!(%error, "a file that was read cannot be closed");
                }
            }));
        }
        Ok(file)
    }

    fn known(&self, path: &Path) -> Option<Rc<dyn File>> {
        let mut state = self.state.borrow_mut();
        state.clock += 1;
        let clock = state.clock;
        let (used, file) = state.files.get_mut(path)?;
        *used = clock;
        Some(Rc::clone(file))
    }

    fn insert(&self, path: &Path, file: Rc<dyn File>) -> Option<Rc<dyn File>> {
        let mut state = self.state.borrow_mut();
        state.clock += 1;
        let clock = state.clock;
        let replaced = state.files.insert(path.to_owned(), (clock, file));
        if let Some((_, replaced)) = replaced {
            return Some(replaced);
        }
        if state.files.len() <= self.max {
            return None;
        }
        let oldest = state.files.iter().min_by_key(|(_, (used, _))| *used)?.0.clone();
        state.files.remove(&oldest).map(|(_, file)| file)
    }

    /// Forgets files whose path starts with `prefix`.
    pub(super) async fn forget(&self, prefix: &Path) -> io::Result<()> {
        let gone: Vec<_> = {
            let mut state = self.state.borrow_mut();
            state.forgotten += 1;
            state.files.extract_if(|path, _| path.starts_with(prefix)).map(|(_, f)| f.1).collect()
        };
        for file in gone {
            file.close().await?;
        }
        Ok(())
    }

    pub(super) async fn close_all(&self) -> io::Result<()> {
        self.forget(Path::new("")).await
    }
}
