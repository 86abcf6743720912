//! Archives and files, both ways.

use super::RemoteStore;
use crate::error::{Failure, Outcome};
use crate::upload::open_source;
use firn_core::{CaMethod, HashAlgo, StorePath, ValidPathInfo};
use firn_store::{AddSource, NarSink, NarSource, NarStream, Store, StoreError};
use firn_wire::Message;
use firn_wire::worker::{Op, read_path_info, write_path_info};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

impl RemoteStore {
    pub(super) async fn fetch_nar(&self, path: &StorePath, sink: NarSink<'_>) -> Outcome<()> {
        let mut lease = self
            .call(Op::NarFromPath, |m, _| {
                m.path(self.dir(), path);
                Ok(())
            })
            .await?;
        let mut nar = NarStream::new(&mut lease.input);
        let copied =
            tokio::io::copy_buf(&mut tokio::io::BufReader::with_capacity(256 * 1024, &mut nar), sink).await;
        if let Err(error) = copied {
            drop(lease);
            // Nix's daemon begins an archive before it looks for what is to be in it.
            if error.kind() == ErrorKind::InvalidData && !self.is_valid_path(path).await? {
                return Err(StoreError::InvalidPath { path: self.dir().display(path) }.into());
            }
            return Err(error.into());
        }
        sink.flush().await?;
        lease.done();
        Ok(())
    }

    pub(super) async fn send_nar(
        &self,
        info: &ValidPathInfo,
        nar: NarSource<'_>,
        repair: bool,
        check_signatures: bool,
    ) -> Outcome<()> {
        let mut lease = self.lease().await?;
        let mut message = Message::new();
        message.num(Op::AddToStoreNar);
        write_path_info(&mut message, self.dir(), info);
        message.num(repair).num(!check_signatures);
        // The archive ends where it says, whatever follows in the source.
        let mut source = tokio::io::BufReader::with_capacity(64 * 1024, nar);
        let mut archive = NarStream::new(&mut source);
        let version = lease.version();
        let result = if version.has(23) {
            lease.upload(message, &mut archive, &*self.logger).await
        } else if version.has(21) {
            match lease.send(&message).await {
                Ok(()) => lease.stderr(&*self.logger, Some(&mut archive)).await,
                error => error,
            }
        } else {
            lease.send(&message).await?;
            tokio::io::copy(&mut archive, &mut lease.output).await?;
            lease.exchange(&Message::new(), &*self.logger).await
        };
        lease.settle(result)
    }

    pub(super) async fn send_source(
        &self,
        name: &str,
        source: AddSource<'_>,
        method: CaMethod,
        algo: HashAlgo,
        references: &BTreeSet<StorePath>,
        repair: bool,
    ) -> Outcome<ValidPathInfo> {
        if !self.handshake().await?.protocol.version.has(25) {
            return self.send_source_old(name, source, method, algo, references, repair).await;
        }
        let mut bytes = open_source(source, method)?;
        let mut lease = self.lease().await?;
        let mut message = Message::new();
        message
            .num(Op::AddToStore)
            .bytes(name)
            .bytes(format!("{}{algo}", method_prefix(method)))
            .paths(self.dir(), references)
            .num(repair);
        if let Err(failure) = lease.upload(message, bytes.reader(), &*self.logger).await {
            return lease.settle(Err(failure));
        }
        let info = read_path_info(&mut lease.input, self.dir()).await?;
        lease.done();
        self.keep(&Arc::new(info.clone()));
        Ok(info)
    }

    /// As daemons before 1.25 want it: an archive always, or text.
    async fn send_source_old(
        &self,
        name: &str,
        source: AddSource<'_>,
        method: CaMethod,
        algo: HashAlgo,
        references: &BTreeSet<StorePath>,
        repair: bool,
    ) -> Outcome<ValidPathInfo> {
        if repair {
            let text = "repairing is not supported when building through the Nix daemon protocol < 1.25";
            return Err(StoreError::Other(text.into()).into());
        }
        let mut lease = self.lease().await?;
        let mut message = Message::new();
        let result = if method == CaMethod::Text {
            let mut text = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(open_source(source, method)?.reader(), &mut text).await?;
            message.num(Op::AddTextToStore).bytes(name).bytes(text).paths(self.dir(), references);
            lease.exchange(&message, &*self.logger).await
        } else {
            let recursive = method == CaMethod::NixArchive;
            let plain = recursive && algo == HashAlgo::Sha256;
            message.num(Op::AddToStore).bytes(name).num(!plain).num(recursive).bytes(algo.name());
            lease.send(&message).await?;
            let mut archive = open_source(source, CaMethod::NixArchive)?;
            tokio::io::copy(archive.reader(), &mut lease.output).await?;
            lease.exchange(&Message::new(), &*self.logger).await
        };
        if let Err(failure) = result {
            return lease.settle(Err(failure));
        }
        let path = lease.input.path(self.dir()).await?;
        lease.done();
        match self.query_path_info(&path).await? {
            Some(info) => Ok((*info).clone()),
            None => Err(Failure::Store(StoreError::InvalidPath { path: self.dir().display(&path) })),
        }
    }
}

/// The method as the protocol writes it in front of the algorithm.
fn method_prefix(method: CaMethod) -> &'static str {
    match method {
        CaMethod::Text => "text:",
        CaMethod::Flat => "fixed:",
        CaMethod::NixArchive => "fixed:r:",
        CaMethod::Git => "fixed:git:",
    }
}
