//! The part of the CRI (Kubernetes' container runtime interface, gRPC) that pulls images. The
//! messages hold the fields that are used here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codec::ProstCodec;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

use crate::registries::login::Login;

#[derive(Clone, PartialEq, prost::Message)]
struct PullImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
    #[prost(message, optional, tag = "2")]
    auth: Option<AuthConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthConfig {
    #[prost(string, tag = "1")]
    username: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PullImageResponse {
    #[prost(string, tag = "1")]
    image_ref: String,
}

/// `ImageService.PullImage`; the image's id.
pub(crate) fn pull_image(socket: &Path, reference: &str, login: Option<Login>) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let request = PullImageRequest {
        image: Some(ImageSpec {
            image: reference.to_owned(),
        }),
        auth: login.map(|login| AuthConfig {
            username: login.user.to_owned(),
            password: login.password.to_owned(),
        }),
    };
    runtime.block_on(call(socket.to_owned(), request))
}

async fn call(socket: PathBuf, request: PullImageRequest) -> Result<String> {
    let connect = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The connector does not look at the address.
    let endpoint = Endpoint::from_static("http://cri.invalid");
    let channel = endpoint.connect_with_connector(connect).await;
    let mut grpc = Grpc::new(channel.context("containerd's socket")?);
    grpc.ready().await?;
    let path = PathAndQuery::from_static("/runtime.v1.ImageService/PullImage");
    let codec = ProstCodec::<PullImageRequest, PullImageResponse>::default();
    let pulled = grpc.unary(Request::new(request), path, codec).await?;
    Ok(pulled.into_inner().image_ref)
}
