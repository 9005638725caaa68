"""What goes wrong with a store, from the names that its libraries have for it to words."""

import errno

_OBJECT = "an object that can be read"
_ACCESS = "credentials that may do this"
_SERVER = "a server that answers"
_SECRET = "the secret that belongs to the access key"
_KEYS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or what you gave instead"
_POLICY = "check the credentials and the policy of the bucket"
_LOGIN = "give credentials; a public bucket needs anonymous"
_RETRY = "try again, with fewer requests at once if it repeats"
_GOOGLE = "set GOOGLE_APPLICATION_CREDENTIALS, or call gcloud auth application-default login"
_AZURE = "check AZURE_STORAGE_CONNECTION_STRING, or storage.account with AZURE_STORAGE_ACCOUNT_KEY or a role"
_REGION = "set AWS_REGION, or region, to the region of the bucket"
_ENDPOINT = "check AWS_ENDPOINT_URL, or endpoint_url, and the network"
_NETWORK = "check the name and the network"
_PATH = "check the path"
_PERMISSIONS = "change its permissions or the path"
_DISK = "look at the messages of the kernel if it repeats"
_MOUNT = "look whether it is mounted, and at the network"
_SPACE = "free some space or choose another path"

# Error code of a service, HTTP status, errno or exception class -> kind, what is wrong, what was expected, the mend.
CAUSES: dict[str | int | None, tuple[str, str, str, str]] = {
    "NoSuchBucket": (
        "invalid",
        "is in a bucket that does not exist",
        "an existing bucket",
        "correct the name",
    ),
    "NoSuchKey": ("missing", "does not exist", _OBJECT, "check the bucket and the key"),
    "404": ("missing", "does not exist", _OBJECT, "check the bucket and the key"),
    "InvalidObjectState": (
        "archived",
        "lies in an archive class (Glacier) and is not restored",
        "an object that can be read at once",
        "restore it, or leave it out",
    ),
    "AccessDenied": ("denied", "is not accessible: access denied", _ACCESS, _POLICY),
    "403": ("denied", "is not accessible: access denied (HTTP 403)", _ACCESS, _POLICY),
    "SignatureDoesNotMatch": (
        "credentials",
        "is not accessible: wrong secret access key (SignatureDoesNotMatch)",
        _SECRET,
        _KEYS,
    ),
    "InvalidAccessKeyId": (
        "credentials",
        "is not accessible: unknown access key (InvalidAccessKeyId)",
        _ACCESS,
        _KEYS,
    ),
    "ExpiredToken": ("credentials", "is not accessible: the session token has expired", _ACCESS, _KEYS),
    "InvalidToken": ("credentials", "is not accessible: the session token is invalid", _ACCESS, _KEYS),
    "NoCredentialsError": (
        "credentials",
        "is not accessible: no credentials found",
        _ACCESS,
        f"{_KEYS}; a public bucket needs anonymous",
    ),
    "PartialCredentialsError": (
        "credentials",
        "is not accessible: half of the credentials is missing",
        _ACCESS,
        _KEYS,
    ),
    "ProfileNotFound": (
        "credentials",
        "is not accessible: AWS_PROFILE names no profile",
        _ACCESS,
        "unset AWS_PROFILE",
    ),
    "RequestTimeTooSkewed": (
        "credentials",
        "is not accessible: the clocks differ",
        "the right time",
        "set the clock",
    ),
    "PermanentRedirect": ("invalid", "lies in another region", "the region of the bucket", _REGION),
    "301": ("invalid", "lies in another region", "the region of the bucket", _REGION),
    "AuthorizationHeaderMalformed": (
        "invalid",
        "lies in another region",
        "the region of the bucket",
        _REGION,
    ),
    "InvalidBucketName": (
        "invalid",
        "has an invalid bucket name",
        "3 to 63 of a-z, 0-9, '.', '-'",
        "correct it",
    ),
    "ParamValidationError": ("invalid", "has an invalid bucket name or key", "s3://BUCKET/KEY", "correct it"),
    "XAmzContentSHA256Mismatch": ("unavailable", "was refused: it arrived damaged", "the sent bytes", _RETRY),
    "BadDigest": ("unavailable", "was refused: it arrived damaged", "the sent bytes", _RETRY),
    "PreconditionFailed": ("invalid", "was written by another at the same time", "one writer", _RETRY),
    "SlowDown": ("unavailable", "was refused: too many requests (SlowDown)", _SERVER, _RETRY),
    "InternalError": ("unavailable", "was refused: internal error of the server", _SERVER, _RETRY),
    "ServiceUnavailable": ("unavailable", "was refused: the service is unavailable", _SERVER, _RETRY),
    "RequestTimeout": ("unavailable", "was refused: the request timed out (RequestTimeout)", _SERVER, _RETRY),
    "ThrottlingException": ("unavailable", "was refused: too many requests (ThrottlingException)", _SERVER, _RETRY),
    "500": ("unavailable", "was refused: internal error of the server (HTTP 500)", _SERVER, _RETRY),
    "502": ("unavailable", "was refused: bad gateway (HTTP 502)", _SERVER, _RETRY),
    "503": ("unavailable", "was refused: the service is unavailable (HTTP 503)", _SERVER, _RETRY),
    "504": ("unavailable", "was refused: gateway timeout (HTTP 504)", _SERVER, _RETRY),
    "507": ("full", "was not written: the storage is full (HTTP 507)", "free space", _SPACE),
    # of Google Cloud
    "401": ("credentials", "is not accessible: no credentials, or none that count (HTTP 401)", _ACCESS, _LOGIN),
    "UserProjectMissing": (
        "credentials",
        "is in a bucket whose requester pays",
        "a project that pays",
        "set storage.requester_pays=true",
    ),
    "DefaultCredentialsError": (
        "credentials",
        "is not accessible: no credentials found",
        _ACCESS,
        f"{_GOOGLE}; a public bucket needs anonymous",
    ),
    "RefreshError": ("credentials", "is not accessible: the credentials cannot be renewed", _ACCESS, _GOOGLE),
    "TransportError": ("unavailable", "is unreachable: the credentials' server does not answer", _SERVER, _NETWORK),
    "408": ("unavailable", "was refused: the request timed out (HTTP 408)", _SERVER, _RETRY),
    "412": ("invalid", "was written by another at the same time", "one writer", _RETRY),
    "429": ("unavailable", "was refused: too many requests (HTTP 429)", _SERVER, _RETRY),
    # of Azure
    "BlobNotFound": ("missing", "does not exist", _OBJECT, "check the container and the name"),
    "ContainerNotFound": (
        "invalid",
        "is in a container that does not exist",
        "an existing container",
        "correct the name",
    ),
    "ContainerBeingDeleted": (
        "invalid",
        "is in a container that is being deleted",
        "an existing container",
        "correct the name",
    ),
    "BlobArchived": (
        "archived",
        "lies in the archive tier and is not restored",
        "an object that can be read at once",
        "restore it, or leave it out",
    ),
    "AuthenticationFailed": ("credentials", "is not accessible: AuthenticationFailed", _ACCESS, _AZURE),
    "ClientAuthenticationError": ("credentials", "is not accessible: no login to Azure", _ACCESS, _AZURE),
    "CredentialUnavailableError": ("credentials", "is not accessible: no credentials found", _ACCESS, _AZURE),
    "NoAuthenticationInformation": (
        "credentials",
        "is not accessible: no credentials",
        _ACCESS,
        f"{_AZURE}; a public container needs anonymous",
    ),
    "PublicAccessNotPermitted": ("denied", "is not accessible: the account is not public", _ACCESS, _AZURE),
    "AuthorizationFailure": ("denied", "is not accessible: AuthorizationFailure", _ACCESS, _POLICY),
    "AuthorizationPermissionMismatch": ("denied", "is not accessible: the role does not allow it", _ACCESS, _POLICY),
    "InvalidResourceName": (
        "invalid",
        "has an invalid container name",
        "3 to 63 of a-z, 0-9, '-'",
        "correct it",
    ),
    "ConditionNotMet": ("invalid", "was written by another at the same time", "one writer", _RETRY),
    "Md5Mismatch": ("unavailable", "was refused: it arrived damaged", "the sent bytes", _RETRY),
    "ServerBusy": ("unavailable", "was refused: too many requests (ServerBusy)", _SERVER, _RETRY),
    "OperationTimedOut": ("unavailable", "was refused: the server took too long", _SERVER, _RETRY),
    "ServiceRequestError": ("unavailable", "is unreachable: no server answers there", _SERVER, _NETWORK),
    "ServiceResponseError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
    "IncompleteReadError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
    errno.ENOENT: ("missing", "does not exist", "an existing path", _PATH),
    errno.ENOTDIR: ("missing", "does not exist: a part of its path is a file", "an existing path", _PATH),
    errno.ELOOP: ("missing", "is a symbolic link that leads nowhere", "a link to a file", "correct the link"),
    errno.EISDIR: ("missing", "is a folder", "a file", _PATH),
    errno.ENAMETOOLONG: (
        "missing",
        "has a name that is too long",
        "a name of at most 255 bytes",
        "shorten it",
    ),
    errno.EACCES: (
        "denied",
        "is not accessible: permission denied",
        "a path this user may use",
        _PERMISSIONS,
    ),
    errno.EPERM: (
        "denied",
        "is not accessible: operation not permitted",
        "a path this user may use",
        _PERMISSIONS,
    ),
    errno.EROFS: ("denied", "lies on a read-only file system", "a writable path", "choose another path"),
    errno.ENOSPC: ("full", "was not written: the disk is full", "free space", _SPACE),
    errno.EDQUOT: ("full", "was not written: the quota is used up", "free space", _SPACE),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE),
        ("unavailable", "was not opened: too many open files", "free file handles", "raise ulimit -n"),
    ),
    **dict.fromkeys(
        (errno.EIO, errno.EREMOTEIO, errno.EAGAIN, errno.EBUSY),
        ("unavailable", "cannot be read or written just now", "a disk without faults", _DISK),
    ),
    **dict.fromkeys(
        (errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, errno.ENODEV),
        ("unavailable", "is unreachable: its mount was lost", "a mounted disk", _MOUNT),
    ),
    **dict.fromkeys(
        (errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
        ("unavailable", "is unreachable: no server answers there", _SERVER, _MOUNT),
    ),
    "FileNotFoundError": ("missing", "does not exist", _OBJECT, _PATH),
    "PermissionError": ("denied", "is not accessible: access denied", _ACCESS, _POLICY),
    "EndpointConnectionError": ("unavailable", "is unreachable: no server answers there", _SERVER, _ENDPOINT),
    "ConnectTimeoutError": ("unavailable", "is unreachable: connecting timed out", _SERVER, _ENDPOINT),
    "ClientConnectorError": ("unavailable", "is unreachable: no server answers there", _SERVER, _NETWORK),
    "SSLError": ("unavailable", "is unreachable: no secure connection", "a trusted certificate", _ENDPOINT),
    "FlexibleChecksumError": ("unavailable", "arrived damaged: wrong checksum", "the stored bytes", _RETRY),
    "ReadTimeoutError": ("unavailable", "stopped answering", _SERVER, _RETRY),
    "TimeoutError": ("unavailable", "stopped answering", _SERVER, _RETRY),
    "HTTPClientError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
    "ClientPayloadError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
    "ClientConnectionError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
    "ConnectionError": ("unavailable", "broke off: the connection failed", _SERVER, _RETRY),
}
