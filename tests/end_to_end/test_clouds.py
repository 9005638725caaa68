"""From images to tokens on Google Cloud and on Azure, each a real server on loopback, by commands as a user types them.

A table in the bucket names one image at an https:// address, one that is not public, and a file of the machine.
"""

import pytest
from aiohttp import web

from seit_ray.shards import TokenDataset
from seit_ray.storage import Folder
from tests.end_to_end.processes import LOCAL_RAY, succeed
from tests.https_server import running_https_server
from tests.tiny_images import image_bytes

NUM_IMAGES = 10


def picture(i):
    return image_bytes(("cat", "dog")[i % 2], i, side=24, format="PNG")


async def an_image(request):
    return web.Response(body=picture(NUM_IMAGES))


async def no_entry(request):
    return web.Response(status=403)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["google_server", "azure_server"], ids=["gs", "az"])
def test_a_table_of_images_becomes_tokens(request, monkeypatch, tmp_path, name):
    server = request.getfixturevalue(name)
    root = f"{server.scheme}://{server.create_bucket('end-to-end')}"
    (tmp_path / "secret.png").write_bytes(picture(0))
    with running_https_server(tmp_path) as https:
        variables = {**server.variables, "SSL_CERT_FILE": str(https.authority)}
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        https.answers |= {"/a.png": an_image, "/b.png": no_entry}
        rows = [f"photos/{i}.png,{('cat', 'dog')[i % 2]}" for i in range(NUM_IMAGES)]
        rows += [f"{https.uri('/a.png')},cat", f"{https.uri('/b.png')},dog", f"{tmp_path}/secret.png,dog"]
        folder = Folder(root)
        for i in range(NUM_IMAGES):
            folder.write(f"photos/{i}.png", picture(i))
        folder.write("list.csv", "\n".join(["uri,label", *rows]).encode())
        keys = ("storage.private_addresses=true", "storage.connections=8", *LOCAL_RAY)
        places = (f"images={root}/list.csv", *keys)
        sizes = ("centroid.image_size=16", "centroid.patch_size=4", "centroid.codebook_size=16")
        succeed("fit_tokenizer", *places, f"output={root}/tokenizer", *sizes, **variables)
        tokens = ("tokenize.rows_per_shard=8", "tokenize.num_actors=1", "tokenize.max_reject_fraction=0.2")
        given = (*places, f"tokenizer={root}/tokenizer", f"output={root}/tokens", *tokens)
        succeed("tokenize_images", *given, **variables)
        dataset = TokenDataset(folder.join("tokens"))
        assert len(dataset.read_split("train")) == NUM_IMAGES + 1
        reasons = dataset.rejected("train")["reason"].to_pylist()
        assert len(reasons) == 2
        assert any("/b.png is not public (HTTP 403)" in reason for reason in reasons)
        assert any("secret.png is a file of the machine that reads it" in reason for reason in reasons)
