//! A cache in an S3 bucket: HTTP with what S3 wants of uploads.

use crate::config::CacheConfig;
use crate::files::{Content, Files};
use crate::http_files::HttpFiles;
use async_trait::async_trait;
use bytes::Bytes;
use firn_core::{HashAlgo, HashFormat, Hasher};
use firn_http::{Method, Request, Upload};
use firn_store::{StoreError, StoreResult, Trust};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::io::AsyncWrite;

/// Most parts that an upload may have, and the largest size of one and of an upload without parts, in bytes.
const MAX_PARTS: u64 = 10_000;
const MAX_PART_SIZE: u64 = 5 << 30;

pub(crate) struct S3Files {
    http: HttpFiles,
    config: Arc<CacheConfig>,
}

impl S3Files {
    pub fn new(http: HttpFiles, config: Arc<CacheConfig>) -> S3Files {
        S3Files { http, config }
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> StoreResult<Request> {
        let mut request = self.http.request(method, path)?;
        if !query.is_empty() {
            let mut url = url::Url::parse(&request.url).map_err(|e| StoreError::Other(e.to_string()))?;
            url.query_pairs_mut().extend_pairs(query);
            request.url = url.to_string();
        }
        Ok(request)
    }

    async fn send(&self, request: Request) -> StoreResult<(firn_http::Response, Bytes)> {
        self.http.client().fetch(request, 1 << 20).await.map_err(|e| self.http.upload_error(&e))
    }

    /// Uploads a file in parts, each of which can be tried again alone. What was begun is given up on failure.
    async fn put_parts(&self, path: &str, upload: Upload, head: &Request) -> StoreResult<()> {
        let size = upload.size();
        let part_size = self.config.multipart_chunk_size.max(size.div_ceil(MAX_PARTS));
        if part_size > MAX_PART_SIZE {
            return Err(StoreError::Other(format!("file of {size} bytes is too large for S3")));
        }
        let mut begin = self.request(Method::Post, path, &[("uploads", "")])?;
        begin.headers.clone_from(&head.headers);
        begin.mime_type.clone_from(&head.mime_type);
        begin.body = Some(Upload::Bytes(Bytes::new()));
        let (_, answer) = self.send(begin).await?;
        let id = element(&answer, "UploadId").ok_or_else(|| {
            StoreError::Other("S3 CreateMultipartUpload response missing <UploadId>".into())
        })?;
        let result = self.send_parts(path, &upload, part_size, &id).await;
        if result.is_err() {
            let mut abort = self.request(Method::Delete, path, &[("uploadId", &id)])?;
            abort.body = None;
            // The first error is the one to tell.
            drop(self.send(abort).await);
        }
        result
    }

    async fn send_parts(&self, path: &str, upload: &Upload, part_size: u64, id: &str) -> StoreResult<()> {
        let size = upload.size();
        let mut tags = String::from("<CompleteMultipartUpload>");
        let (mut at, mut number) = (0, 0);
        while at < size {
            number += 1;
            let length = part_size.min(size - at);
            let piece = piece(upload, at, length).await?;
            let query = [("partNumber", &*format!("{number}")), ("uploadId", id)];
            let mut request = self.request(Method::Put, path, &query)?;
            request.mime_type = Some("application/octet-stream".into());
            request.body = Some(Upload::Bytes(piece));
            let (response, _) = self.send(request).await?;
            if response.etag.is_empty() {
                return Err(StoreError::Other(format!(
                    "S3 UploadPart response missing ETag for part {number}"
                )));
            }
            tags += &format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>",
                response.etag.replace('&', "&amp;").replace('<', "&lt;")
            );
            at += length;
        }
        tags += "</CompleteMultipartUpload>";
        let mut request = self.request(Method::Post, path, &[("uploadId", id)])?;
        request.mime_type = Some("text/xml".into());
        request.body = Some(Upload::Bytes(tags.into()));
        let (_, answer) = self.send(request).await?;
        // S3 may say "200" first and then find that it failed.
        match element(&answer, "Code") {
            Some(code) => Err(StoreError::Other(format!("S3 CompleteMultipartUpload failed: {code}"))),
            None => {
                let done = format!("S3 multipart upload completed: {number} parts uploaded for '{path}'");
                self.http.client().debug(&done);
                Ok(())
            }
        }
    }
}

/// The text of the first element of that name: answers are short and flat.
fn element(xml: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(xml).ok()?;
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once('<').map(|(value, _)| value.to_owned())
}

async fn piece(upload: &Upload, at: u64, length: u64) -> StoreResult<Bytes> {
    match upload {
        Upload::Bytes(bytes) => Ok(bytes.slice(at as usize..(at + length) as usize)),
        Upload::File { file, .. } => {
            let file = Arc::clone(file);
            let read = tokio::task::spawn_blocking(move || {
                let mut data = vec![0; length as usize];
                file.read_exact_at(&mut data, at).map(|()| Bytes::from(data))
            });
            let read = read.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
            read.map_err(StoreError::io("reading", "an upload's temporary file"))
        }
    }
}

/// The MD5 that S3 checks a body against.
async fn md5(upload: &Upload) -> StoreResult<String> {
    let mut hasher = Hasher::new(HashAlgo::Md5);
    let mut at = 0;
    while at < upload.size() {
        let part = piece(upload, at, (1 << 20).min(upload.size() - at)).await?;
        hasher.update(&part);
        at += part.len() as u64;
    }
    Ok(hasher.finish().to_base(HashFormat::Base64))
}

#[async_trait]
impl Files for S3Files {
    fn uri(&self) -> &str {
        self.http.uri()
    }

    fn trust(&self) -> Option<Trust> {
        None
    }

    async fn prepare(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn get(&self, path: &str) -> StoreResult<Option<Bytes>> {
        self.http.get(path).await
    }

    async fn stream(&self, path: &str, sink: &mut (dyn AsyncWrite + Send + Unpin)) -> StoreResult<bool> {
        self.http.stream(path, sink).await
    }

    async fn exists(&self, path: &str) -> StoreResult<bool> {
        self.http.exists(path).await
    }

    async fn put(&self, path: &str, content: Content, mime: &str) -> StoreResult<()> {
        let mut request = self.request(Method::Put, path, &[])?;
        let (body, encoding) = self.http.encoded(path, &content).await?;
        request.mime_type = Some(mime.to_owned());
        request.headers.extend(encoding.map(|name| ("Content-Encoding".to_owned(), name.to_owned())));
        if let Some(class) = &self.config.storage_class {
            request.headers.push(("x-amz-storage-class".into(), class.clone()));
        }
        let in_parts = self.config.multipart_upload && body.size() > self.config.multipart_threshold;
        let kind = if in_parts { "multipart" } else { "regular" };
        self.http.client().debug(&format!("using S3 {kind} upload for '{path}' ({} bytes)", body.size()));
        if in_parts {
            return self.put_parts(path, body, &request).await;
        }
        if body.size() > MAX_PART_SIZE {
            return Err(StoreError::Other(format!(
                "file of {} bytes is too large for an S3 upload without parts; consider enabling multipart-upload",
                body.size()
            )));
        }
        request.headers.push(("Content-MD5".into(), md5(&body).await?));
        request.body = Some(body);
        self.send(request).await.map(drop)
    }

    async fn hash_parts(&self) -> StoreResult<Option<Vec<String>>> {
        Ok(None)
    }
}
