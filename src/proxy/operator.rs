//! The way from the proxy's listener to the admin endpoints, for the operations of `admin_at`.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::config::Operation;

/// The answer to an operation; `None` if the process ends.
type OperationAnswer = Pin<Box<dyn Future<Output = Option<Response<Bytes>>> + Send>>;

/// Carries out an operation for a client at this address.
pub(crate) type Operator =
    Arc<dyn Fn(Operation, Option<IpAddr>, Request<Bytes>) -> OperationAnswer + Send + Sync>;
