"""Types of values, and groups of keys that verbs of all kinds share: storage, sources, Ray, tokenising."""

from __future__ import annotations

import dataclasses
import pkgutil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr


def rising(bounds: tuple[float, float]) -> tuple[float, float]:
    """The bounds of a range; ValueError where the first is the larger."""
    if bounds[0] > bounds[1]:
        raise ValueError("the smaller bound first; put them in order")
    return bounds


def below_output(name: str) -> str:
    """The name of a run; ValueError for a place of its own, which would be taken for one below `output`."""
    if "://" in name or name.startswith(("/", "~")):
        raise ValueError(f"a name below output, not {name}; set output to the folder and run to a name in it")
    return name


PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Texts = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]  # a share that is not nothing
Rate = Annotated[float, Field(ge=0, lt=1)]  # of what is dropped
Decay = Annotated[float, Field(ge=0, lt=1)]  # of a moving average
CropArea = Annotated[tuple[PositiveShare, PositiveShare], AfterValidator(rising)]
CropAspect = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(rising)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]  # what a generator of torch takes
Codes = Annotated[int, Field(ge=2, le=65536)]
RunName = Annotated[str, AfterValidator(below_output)]


class Section(BaseModel):
    """A group of keys; a key it does not know is an error.

    frozen: module:class of the frozen dataclass that the packages below take in its place, if there is one.
    undecided: keys, or sections, that decide nothing of a result: where it is made, how often it is looked at.
    places: keys that hold the address of a folder or file.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
    frozen: ClassVar[str | None] = None
    undecided: ClassVar[frozenset[str]] = frozenset()
    places: ClassVar[frozenset[str]] = frozenset()

    def settings(self) -> Any:
        """The dataclass that holds these values; of fields that it has not, nothing is passed on."""
        assert self.frozen is not None  # asked of the sections that have one
        found = pkgutil.resolve_name(self.frozen)
        return found(**{field.name: getattr(self, field.name) for field in dataclasses.fields(found)})


def described(section: type[Section], name: str) -> str | None:
    """What a key means, where its default alone is another: a section with other defaults is a class of its own.

    A field whose default is an instance of a section with other values would lose them where one key of it is given.
    """
    return section.model_fields[name].description


class Storage(Section):
    """How object storage is reached. What is left out comes from each cloud's own variables and roles."""

    endpoint_url: str | None = Field(None, description="S3 endpoint, for servers other than AWS")
    region: str | None = Field(None, description="region of the buckets of S3")
    access_key_id: SecretStr | None = Field(None, description="access key of S3; better left to the environment")
    secret_access_key: SecretStr | None = Field(None, description="secret key of S3; better left to the environment")
    session_token: SecretStr | None = Field(None, description="token of temporary credentials of S3")
    account: str | None = Field(None, description="storage account of az://; AZURE_STORAGE_ACCOUNT_NAME else")
    anonymous: bool = Field(False, description="read public buckets without credentials")
    requester_pays: bool = Field(
        False, description="pay for what is read from buckets of others (s3://; gs:// to GOOGLE_CLOUD_PROJECT)"
    )
    connections: PositiveInt = Field(64, le=1024, description="requests at once of each process; az:// has 100 at most")
    private_addresses: bool = Field(False, description="read https:// addresses that lie in private networks too")

    def options(self) -> dict[str, Any]:
        """Plain keyword arguments for `storage.Folder`, secrets opened."""
        return {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in self}


class Source(Section):
    """Where labels and pictures are in what the user points at."""

    frozen = "seit_ray.images.sources.settings:SourceSettings"
    undecided = frozenset({"listing"})
    places = frozenset({"inventory", "class_names"})

    kind: Literal["auto", "folders", "flat", "table", "parquet", "webdataset"] = Field(
        "auto",
        description="folder per class | no labels | CSV/Parquet of uri,label | Parquet with image bytes | tars",
    )
    label_column: str = Field(
        "label", description="column of the class in tables; in tars an extension (cls if left) or a field of .json"
    )
    uri_column: str = Field("uri", description="column of the image's address in tables")
    image_column: str = Field(
        "image", description="column of the image's bytes in Parquet; in tars its extension, if there are several"
    )
    split_column: str = Field("split", description="column of the split in tables, if there is one")
    key_column: str = Field(
        "", description="column of what an image is called, in tables and Parquet; in tars a field of .json"
    )
    suffixes: Texts | None = Field(
        None, description="suffixes of image files in place of the usual ones; '' takes files without one"
    )
    include: Texts = Field((), description="patterns (*, ?, [..]) of keys: only images that fit one count")
    exclude: Texts = Field((), description="patterns of keys: images that fit one are left out")
    limit: PositiveInt | None = Field(None, description="only the first so many images of the listing, to try it out")
    inventory: str | None = Field(
        None,
        description="table of the objects (key, size, e_tag), or the manifest.json of an S3 Inventory in CSV or "
        "Parquet, instead of a listing",
    )
    find_splits: bool = Field(True, description="whether folders and files named train, val, test, ... are splits")
    class_names: str | None = Field(
        None, description="file of class names: a name a line, a JSON list, or a JSON mapping from label to name"
    )
    allow_files: bool = Field(False, description="let a table in a bucket name files of the machines that read it")
    white_level: PositiveInt | None = Field(
        None, description="value that is white in grey images of 16 bits (4095 of 12-bit sensors); 65535 if left"
    )
    listing: str | None = Field(
        None, description="folder that keeps the listing for other verbs on these images; delete it to list them anew"
    )
    masks: str | None = Field(
        None,
        description="folder of label maps that takes the place of the folder images in a path (annotations of ADE-20k, "
        "masks of CamVid), or IMAGES:MAPS: images with a class a pixel, for task=segment",
    )
    void: Annotated[int, Field(ge=0, le=255)] | None = Field(
        None,
        description="of masks: the value that is no class, beside 255; default 0 for a folder annotations, else 255",
    )
    num_classes: PositiveInt | None = Field(
        None, description="of masks: how many classes there are, without void, where class_names does not name them"
    )
    mask_column: str = Field(
        "",
        description="column of the label map's address in tables, or bytes in Parquet; in tars its extension; mask, "
        "and seg.png or mask.png, if left where num_classes or void tells of maps",
    )


class Cluster(Section):
    """Ray: which cluster, and what of it."""

    address: str | None = Field(
        None, description="ray address (auto, host:port, ray://...); RAY_ADDRESS else; a local ray if neither"
    )
    num_cpus: PositiveInt | None = Field(None, description="CPUs of a local ray; all when left out")
    object_store_mib: PositiveInt = Field(1024, description="object store of a local ray, MiB")
    show_logs: bool = Field(False, description="show the logs of Ray and of its workers (--debug)")


class Tokenize(Section):
    """How images become a token dataset."""

    frozen = "seit_ray.distributed.data.tokenize_begin:TokenizeSettings"
    undecided = frozenset(
        {
            *("mode", "check_source", "keep_changed", "max_reject_fraction", "num_actors", "gpus_per_actor"),
            *("memory_mib", "batch_size", "patience_s", "moved_from"),
        }
    )

    mode: Literal["create", "append"] = Field(
        "create", description="append: images that came since a dataset was finished go to new shards of it"
    )
    check_source: bool = Field(False, description="of a finished dataset: compare its images with the source's of now")
    keep_changed: bool = Field(False, description="append even if other images were overwritten; their tokens stay old")
    moved_from: str | None = Field(
        None, description="where these images lay when the dataset was made: another mount or bucket of the same ones"
    )
    val_fraction: Share = Field(0.0, description="share held out as val where the source names no splits")
    seed: Seed = Field(0, description="seed of the hold-out")
    rows_per_shard: PositiveInt | None = Field(
        None, le=65536, description="images a shard, the unit of work; default from their number: 256 to 16384"
    )
    shard_mib: PositiveFloat | None = Field(
        None, description="in place of rows_per_shard: MiB of tokens a shard, when all codes are as frequent"
    )
    encoding: Literal["plain", "compact"] = Field(
        "plain", description="tokens as lists of integers that any Parquet reader shows, or entropy-coded (smallest)"
    )
    decode: Literal["exact", "fast"] = Field(
        "exact", description="pixels as Pillow gives them | scaled in decoding, resized by torch: slightly others"
    )
    max_reject_fraction: Share = Field(0.01, description="fail when more than this share cannot be read")
    max_image_pixels: PositiveInt = Field(178_956_970, description="larger images are rejected")
    max_image_mib: PositiveInt = Field(64, description="larger files are rejected, MiB")
    num_actors: PositiveInt | None = Field(
        None, description="encoder actors at most; default what the GPUs hold, else one a core"
    )
    gpus_per_actor: NonNegativeFloat | None = Field(None, description="default: 1 if the cluster has GPUs")
    memory_mib: PositiveInt | None = Field(
        None, description="what Ray keeps free for each actor and decoding task, MiB, where node types declare memory"
    )
    batch_size: PositiveInt = Field(256, description="images an encoder call")
    patience_s: NonNegativeFloat = Field(180.0, description="how long a storage that does not answer is asked again, s")
