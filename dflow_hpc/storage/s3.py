"""S3, over the client of MinIO: the only module that imports it.

What a network does now and then (a refused connection, an overloaded server) is tried again.

Not here: what an artifact is (``objects.py``); parts, sums and going on after a break (``large.py``).
Trap: the ETag of an object that went up in parts is no MD5 sum.

This module travels with the author's code: standard library only at import, valid Python 3.8.
"""

from __future__ import annotations

import datetime
import urllib.parse
from typing import Any, Callable, Dict, List, Optional, TypeVar

from dflow_hpc.config import s3_config
from dflow_hpc.errors import StorageError
from dflow_hpc.storage import large

_T = TypeVar("_T")
_LARGEST_COPY = 5 << 30  # S3's limit for one request
_TRANSIENT = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite"}
_ADVICE = {
    "NoSuchBucket": "make the bucket, or set s3_config['bucket_name'] (DFLOW_S3_BUCKET_NAME)",
    "NoSuchKey": "see whether the step that makes it succeeded",
    "AccessDenied": "set s3_config['access_key'] and ['secret_key'], or ask for the right to do it",
    "InvalidAccessKeyId": "set s3_config['access_key'] (DFLOW_S3_ACCESS_KEY)",
    "SignatureDoesNotMatch": "set s3_config['secret_key'] (DFLOW_S3_SECRET_KEY)",
}


class MinioClient:
    """A client of one bucket.

    Args:
        endpoint: ``host:port``.
        access_key: The user's key.
        secret_key: Its secret.
        secure: Use TLS.
        bucket_name: The bucket; it must exist.
        region: The region that signatures name; None asks the server.
        attempts: How often a request is tried, when what failed is transient.

    Each argument that is None is taken from ``s3_config``.
    """

    def __init__(
        self,
        endpoint: Optional[str] = None,
        access_key: Optional[str] = None,
        secret_key: Optional[str] = None,
        secure: Optional[bool] = None,
        bucket_name: Optional[str] = None,
        *,
        region: Optional[str] = None,
        attempts: int = 5,
    ):
        from minio import Minio

        def setting(value: Any, name: str) -> Any:
            return s3_config[name] if value is None else value

        self._endpoint = setting(endpoint, "endpoint")
        self._bucket = setting(bucket_name, "bucket_name")
        self._secure = bool(setting(secure, "secure"))
        self._attempts = attempts
        self._client = Minio(
            self._endpoint,
            access_key=setting(access_key, "access_key"),
            secret_key=setting(secret_key, "secret_key"),
            secure=self._secure,
            region=region,
        )
        self._transfers = large.Transfers(self._client, self._bucket)

    def __repr__(self) -> str:
        return f"MinioClient({self._endpoint!r}, bucket_name={self._bucket!r})"

    def _call(self, what: str, request: Callable[[], _T]) -> _T:
        """Make a request, again where that may help; explain what failed for good."""
        import tenacity
        import urllib3
        from minio.error import MinioException, S3Error

        def transient(error: BaseException) -> bool:
            if isinstance(error, S3Error):
                return error.code in _TRANSIENT
            return isinstance(error, (urllib3.exceptions.HTTPError, ConnectionError, large.Damaged))

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(transient),
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_exponential(multiplier=0.2, max=10) + tenacity.wait_random(0, 0.2),
            reraise=True,
        )
        try:
            return attempts(request)
        except S3Error as error:
            advice = _ADVICE.get(error.code or "", "see the storage's own log")
            raise StorageError(f"cannot {what} ({self!r}): {error.code}: {error.message}; {advice}") from error
        except (MinioException, urllib3.exceptions.HTTPError, ConnectionError, large.Damaged) as error:
            raise StorageError(
                f"cannot {what} ({self!r}): {error}; see whether the storage runs and s3_config['endpoint'] is right"
            ) from error

    def upload(self, key: str, path: str) -> None:
        """Store the file ``path`` as the object ``key``."""
        self._call(f"store {path} as {key!r}", lambda: self._transfers.upload(key, path))

    def download(self, key: str, path: str) -> None:
        """Fetch the object ``key`` to the file ``path``, whole or not at all."""
        self._call(f"fetch {key!r} to {path}", lambda: self._transfers.download(key, path))

    def list(self, prefix: str, recursive: bool = False) -> List[str]:
        """Return the keys that begin with ``prefix``; where not ``recursive``, cut behind the next ``/``."""
        return self._call(
            f"list {prefix!r}",
            lambda: [
                str(found.object_name)
                for found in self._client.list_objects(self._bucket, prefix=prefix, recursive=recursive)
            ],
        )

    def copy(self, src: str, dst: str) -> None:
        """Copy an object, on the side of the storage."""
        from minio.commonconfig import ComposeSource, CopySource

        def request() -> None:
            if (self._client.stat_object(self._bucket, src).size or 0) > _LARGEST_COPY:
                self._client.compose_object(self._bucket, dst, [ComposeSource(self._bucket, src)])
            else:
                self._client.copy_object(self._bucket, dst, CopySource(self._bucket, src))

        self._call(f"copy {src!r} to {dst!r}", request)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._call(f"delete {key!r}", lambda: self._client.remove_object(self._bucket, key))

    def get_md5(self, key: str) -> str:
        """Return the MD5 sum of an object; of one that went up in parts S3's ETag, which ends in ``-<parts>``."""
        found = self._call(f"look at {key!r}", lambda: self._client.stat_object(self._bucket, key))
        return str(found.etag)

    def has(self, key: str) -> bool:
        """Say whether there is an object of just this key."""
        return key in self.list(key)

    def region(self) -> str:
        """Return the region that signatures name."""
        query = urllib.parse.urlsplit(self.presigned_url("region")).query
        return urllib.parse.parse_qs(query)["X-Amz-Credential"][0].split("/")[2]

    def presigned_put(self, key: str, expires: datetime.timedelta) -> str:
        """Return an address to which anyone can write the object for a while."""
        return self._call(
            f"sign an address of {key!r}",
            lambda: self._client.presigned_put_object(self._bucket, key, expires=expires),
        )

    def presigned_post(self, prefix: str, expires: datetime.timedelta) -> Dict[str, str]:
        """Return the fields of a form with which anyone can write objects below a prefix for a while.

        The form goes to ``bucket_url``, with a field ``key`` and, last, ``file``.
        """
        from minio.datatypes import PostPolicy

        now = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017  (valid Python 3.8)
        policy = PostPolicy(self._bucket, now + expires)
        policy.add_starts_with_condition("$key", prefix)
        return self._call(
            f"sign a form for objects below {prefix!r}", lambda: dict(self._client.presigned_post_policy(policy))
        )

    @property
    def bucket_url(self) -> str:
        """The bucket's address."""
        return f"{'https' if self._secure else 'http'}://{self._endpoint}/{self._bucket}"

    def presigned_url(self, key: str, expires: datetime.timedelta = datetime.timedelta(hours=1)) -> str:
        """Return an address with which anyone can read the object for a while."""
        return self._call(
            f"sign an address of {key!r}",
            lambda: self._client.presigned_get_object(self._bucket, key, expires=expires),
        )
