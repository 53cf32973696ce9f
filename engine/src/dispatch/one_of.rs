//! One of sixteen futures, in the space of the largest.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;

use super::routed::Never;
use crate::failure::Failure;

/// Writes the enum: `pin_project!` wants each variant spelled out.
macro_rules! one_of {
    ($($variant:ident $future:ident),*) => {
        pin_project! {
            /// One of up to sixteen futures, as large as the largest of them: what a `dispatcher!` routes into.
            ///
            /// More than sixteen receptors are a tree of these. A compiler that has to work out one enum of two hundred
            /// futures takes more than a minute for it; this way it is a second, and the polling costs the same.
            #[project = OneOfProjected]
            #[derive(Debug)]
            #[must_use = "futures do nothing unless they are awaited"]
            #[allow(missing_docs, reason = "the variants are numbers")]
            pub enum OneOf<$($future = Never<()>),*> {
                $($variant { #[pin] future: $future },)*
            }
        }

        impl<$($future),*> Future for OneOf<$($future),*>
        where
            $($future: Future<Output = Result<(), Failure>>,)*
        {
            type Output = Result<(), Failure>;

            #[inline]
            fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
                match self.project() {
                    $(OneOfProjected::$variant { future } => future.poll(task),)*
                }
            }
        }
    };
}

one_of!(
    V0 F0, V1 F1, V2 F2, V3 F3, V4 F4, V5 F5, V6 F6, V7 F7, V8 F8, V9 F9, V10 F10, V11 F11, V12 F12, V13 F13, V14 F14,
    V15 F15
);
