"""Amazon S3 through boto3: listing, and uploads in parts, of which a later run sends the missing ones."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import IO, Any

from cli.errors import USAGE, CliError
from cli.models.bucket import DIGEST, Progress, Stored
from cli.models.sessions import Sessions

PART = 16 << 20  # at most 10000 parts: 160 GB
LEAST = 5 << 20  # of every part but the last


def connected(name: str, state: Path) -> S3:
    """With the credentials of this machine."""
    import boto3

    session = boto3.Session()
    if session.get_credentials() is None:
        raise CliError(f"s3://{name}: no credentials. To fix: aws configure sso, or set AWS_PROFILE", USAGE)
    return S3(name, state, session.client("s3"))


class S3:
    """One bucket."""

    def __init__(self, name: str, state: Path, client: Any, part: int = PART) -> None:
        self._name, self._sessions, self._client, self._part = name, Sessions(state), client, max(part, LEAST)

    def list(self, prefix: str) -> list[Stored]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix)
        with told(self._name):
            return [
                Stored(key=o["Key"], size=o["Size"], updated=o["LastModified"].isoformat())
                for page in pages
                for o in page.get("Contents", ())
            ]

    def digest(self, key: str) -> str | None:
        from botocore.exceptions import ClientError

        try:
            found = self._client.head_object(Bucket=self._name, Key=key)
        except ClientError as e:
            if e.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise CliError(f"s3://{self._name}/{key}: {e}") from None
        value = found["Metadata"].get(DIGEST)
        return str(value) if value is not None else None

    def read(self, key: str, into: IO[bytes]) -> None:
        with told(f"{self._name}/{key}"):
            self._client.download_fileobj(self._name, key, into)

    def upload(self, key: str, path: Path, digest: str, progress: Progress) -> None:
        size = path.stat().st_size
        with told(self._name):
            if size <= self._part:
                with path.open("rb") as file:
                    self._client.put_object(Bucket=self._name, Key=key, Body=file, Metadata={DIGEST: digest})
            else:
                self._in_parts(key, path, size, digest, progress)
        progress(size)

    def _in_parts(self, key: str, path: Path, size: int, digest: str, progress: Progress) -> None:
        """A part that is there with the same content is not sent again, whoever sent it."""
        mine = f"s3://{self._name}/{key} {digest}"
        upload, there = self._sessions.get(mine), None
        if upload is not None:
            there = self._there(key, upload)
        if upload is None or there is None:
            begun = self._client.create_multipart_upload(Bucket=self._name, Key=key, Metadata={DIGEST: digest})
            upload, there = str(begun["UploadId"]), {}
            self._sessions.put(mine, upload)
        sent = []
        with path.open("rb") as file:
            for number in range(1, -(-size // self._part) + 1):
                data = file.read(self._part)
                tag = hashlib.md5(data, usedforsecurity=False)
                if there.get(number) != tag.hexdigest():
                    self._client.upload_part(
                        Bucket=self._name,
                        Key=key,
                        UploadId=upload,
                        PartNumber=number,
                        Body=data,
                        ContentMD5=base64.b64encode(tag.digest()).decode(),
                    )
                sent.append({"PartNumber": number, "ETag": f'"{tag.hexdigest()}"'})
                progress(min(size, number * self._part))
        self._client.complete_multipart_upload(
            Bucket=self._name, Key=key, UploadId=upload, MultipartUpload={"Parts": sent}
        )
        self._sessions.drop(mine)

    def _there(self, key: str, upload: str) -> dict[int, str] | None:
        """Parts of an upload by number; None: it was finished or given up."""
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._name, Key=key, UploadId=upload)
        try:
            return {p["PartNumber"]: p["ETag"].strip('"') for page in pages for p in page.get("Parts", ())}
        except self._client.exceptions.NoSuchUpload:
            return None


class told:  # noqa: N801  -- reads as a statement
    """The SDK's faults as the user's."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, BotoCoreError | ClientError):
            raise CliError(f"s3://{self._name}: {error}") from None
