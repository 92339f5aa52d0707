//! The prober's Python face. What is told and taken is JSON, which the reconciler reads.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use serde::Serialize;

use crate::probing::thread::ProberThread;

/// The prober of a host: a thread that asks backends whether they are well.
#[pyclass(frozen, module = "proxy._engine")]
pub(super) struct Prober(Mutex<ProberThread>);

impl Prober {
    fn lock(&self) -> MutexGuard<'_, ProberThread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Prober {
    #[new]
    fn new() -> PyResult<Self> {
        let thread = ProberThread::start().map_err(PyOSError::new_err)?;
        Ok(Self(Mutex::new(thread)))
    }

    fn bell(&self) -> i32 {
        self.lock().bell()
    }

    fn share(&self, file: i32) -> PyResult<()> {
        self.lock().share(file).map_err(PyValueError::new_err)
    }

    fn tell(
        &self,
        py: Python<'_>,
        message: &[u8],
        materials: HashMap<String, Option<Vec<u8>>>,
    ) -> PyResult<Vec<(String, String)>> {
        py.detach(|| self.lock().tell(message, &materials))
            .map_err(PyValueError::new_err)
    }

    #[pyo3(signature = (names))]
    fn report(&self, py: Python<'_>, names: Option<Vec<String>>) -> PyResult<String> {
        let rows = py
            .detach(|| self.lock().report(names))
            .map_err(PyOSError::new_err)?;
        written(&rows)
    }

    fn take_news(&self) -> PyResult<String> {
        written(&self.lock().take_news())
    }

    fn end(&self, py: Python<'_>) {
        py.detach(|| self.lock().end());
    }
}

fn written(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))
}
