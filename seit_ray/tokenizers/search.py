"""Exact search of the nearest centroid: bounds in a few directions first, whole distances only where these leave doubt.

Shapes: N points, K centroids, D width, M directions. This is the way of a CPU; a GPU has another (device_search.py).

The score x.c - |c|^2/2 is the higher, the nearer a centroid c is to x. With M orthonormal directions that hold most
of the spread, x.c is the product of M coordinates plus that of the remainders, and the latter is at most the product
of their lengths (Cauchy and Schwarz). So one product of width M+2 bounds all scores from above; the score of the
centroid with the highest bound then rules out all but a few, and only these are computed whole.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from seit_ray.tokenizers.device_search import as_floats, search_on_device
from seit_ray.tokenizers.exact import exact_products

CHUNK_VALUES = 1 << 21  # bounds held at a time: rows of a chunk = this / K; stays in reach of a CPU's cache
CHUNK_ROWS = 256  # at least, that the overhead of a chunk is small
WORTH_A_BASIS = 1 << 11  # points from which on the search for directions pays
SAMPLE_ROWS = 512  # points that the number of directions is chosen on
DIRECTIONS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
# Costs on a CPU against a multiply-add of a large matrix product, measured at D of 192 and 768:
THIN_PRODUCT = 1.25  # one in a product of few directions
SINGLE_SCORE = 5.0  # one in the score of a single pair
FOUND_PAIR = 2000.0  # to find a pair among the bounds
BOUNDED_ROW = 20_000.0  # to bound a point at all


@dataclass(frozen=True)
class Coordinates:
    """Centred points in a basis: along [N,M+2], the last two the length of the remainder and 1; squared lengths [N]."""

    along: Tensor
    squares: Tensor


class CentroidSearch:
    """Ids and distances of the nearest of centroids float32 [K,D].

    basis [D,M] with orthonormal columns makes it fast where few directions hold most of the spread, and never wrong.
    """

    def __init__(self, centroids: Tensor, basis: Tensor | None = None, *, origin: Tensor | None = None):
        self.centroids, self.basis = centroids, basis
        # Distances do not depend on the origin, but rounding does: norms are least from the middle.
        self.origin = centroids.mean(0) if origin is None else origin
        self.centred = centroids - self.origin
        self.offsets = 0.5 * self.centred.square().sum(1)
        self.longest = self.centred.norm(dim=1).max()
        # Bounds are looked through by groups of every `groups`-th centroid: K of 1024 in 32 groups.
        self.groups = 1 << ((len(centroids) - 1).bit_length() + 1) // 2
        self.slots = -(-len(centroids) // self.groups)
        filling = self.slots * self.groups - len(centroids)
        factors = self._coordinates(self.centred).along
        factors[:, -1] = -self.offsets
        factors = pad(factors, (0, 0, 0, filling))
        factors[len(centroids) :, -1] = -torch.inf  # what fills up the last groups is never near
        self._factors = factors.T.contiguous()

    def __call__(self, points: Tensor, coordinates: Coordinates | None = None) -> tuple[Tensor, Tensor]:
        """Ids int64 [N], lowest on ties, and squared distances float32 [N] of points [N,D].

        points: float32, or uint8 that stand for 0 to 1; coordinates: theirs, where they are known already.
        Exact whatever the device, thread count or batch: scores that differ by less than the rounding error of
        float32 are settled in float64.
        """
        if points.device.type != "cpu":
            return search_on_device(points, self.centroids, self.origin)
        with exact_products(points.device):
            return self._search_chunks(points, coordinates)

    def _search_chunks(self, points: Tensor, coordinates: Coordinates | None) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        distances = torch.empty(len(points), dtype=torch.float32, device=points.device)
        rows = min(max(CHUNK_ROWS, CHUNK_VALUES // len(self.centroids)), len(points))
        buffer = self._factors.new_empty(rows, self._factors.shape[1])
        for start in range(0, len(points), max(1, rows)):
            part = slice(start, start + rows)
            x = self._centre(points[part])
            if coordinates is None:
                known = self._coordinates(x)
            else:
                known = Coordinates(coordinates.along[part], coordinates.squares[part])
            self._search(x, known, points[part], ids[part], distances[part], buffer[: len(x)])
        return ids, distances

    def coordinates(self, points: Tensor) -> Coordinates:
        """Of points [N,D], to search for them again with other centroids but the same basis and origin."""
        parts = [self._coordinates(self._centre(part)) for part in points.split(1 << 14)]
        return Coordinates(torch.cat([part.along for part in parts]), torch.cat([part.squares for part in parts]))

    def candidates(self, points: Tensor) -> float:
        """How many centroids the bounds leave, as the mean of points [N,D]."""
        x = self._centre(points)
        known = self._coordinates(x)
        blocks = self._bounds(known, None)
        limits = self._limits(x, known, blocks, blocks.amax(1))
        return float((blocks >= limits[:, None, None]).sum(dtype=torch.float64) / len(x))

    def _centre(self, points: Tensor) -> Tensor:
        if points.dtype == torch.uint8:
            return points.float().div_(255).sub_(self.origin)
        return points - self.origin

    def _coordinates(self, x: Tensor) -> Coordinates:
        """Of centred x [N,D]. The remainder is rounded up, so that the bounds hold."""
        squares = torch.linalg.vector_norm(x, dim=1).square_()
        if self.basis is None:
            return Coordinates(pad(x, (0, 1), value=1.0), squares)
        with exact_products(x.device):
            along = x @ pad(self.basis, (0, 2))
        error = 4 * x.shape[1] ** 0.5 * torch.finfo(torch.float32).eps
        found = torch.linalg.vector_norm(along, dim=1).square_()
        along[:, -2] = (squares * (1 + error) - found * (1 - error)).clamp_(min=0).sqrt_()
        along[:, -1] = 1
        return Coordinates(along, squares)

    def _bounds(self, known: Coordinates, buffer: Tensor | None) -> Tensor:
        """No score is higher, by more than rounding: [N,slots,groups], -inf where no centroid is."""
        bounds = torch.mm(known.along, self._factors, out=buffer)
        return bounds.view(-1, self.slots, self.groups)

    def _limits(self, x: Tensor, known: Coordinates, blocks: Tensor, most: Tensor) -> Tensor:
        """[N] that the bound of the nearest centroid reaches; most [N,groups] of the bounds."""
        lengths = known.squares.sqrt()
        slack = rounding_error(lengths, self.longest, self.centred)
        if self.basis is None:  # these are no bounds but the scores themselves
            return most.amax(1) - slack
        group = most.argmax(1)
        slot = blocks.gather(2, group[:, None, None].expand(-1, self.slots, 1)).squeeze(2).argmax(1)
        rows = torch.arange(len(x), device=x.device)
        return self._scores(x, rows, slot * self.groups + group) - slack

    def _search(
        self, x: Tensor, known: Coordinates, points: Tensor, ids: Tensor, distances: Tensor, buffer: Tensor
    ) -> None:
        """Fill in ids [N] and distances [N] of centred x [N,D], which are `points` before."""
        blocks = self._bounds(known, buffer)
        most = blocks.amax(1)
        limits = self._limits(x, known, blocks, most)
        row, group = (most >= limits[:, None]).nonzero(as_tuple=True)
        pair, slot = (blocks[row, :, group] >= limits[row, None]).nonzero(as_tuple=True)
        row, group = row[pair], group[pair]
        column = slot * self.groups + group
        scores = blocks[row, slot, group] if self.basis is None else self._scores(x, row, column)
        best = scores.new_full((len(x),), -torch.inf).scatter_reduce_(0, row, scores, "amax")
        slack = rounding_error(known.squares.sqrt(), self.longest, self.centred)
        near = scores >= (best - slack)[row]
        row, column = row[near], column[near]
        ids[row] = column
        distances.copy_((known.squares - 2 * best).clamp_(min=0))
        tied = (torch.bincount(row, minlength=len(x)) > 1)[row]
        row, column = row[tied], column[tied]
        if len(row):
            again, place = row.unique_consecutive(return_inverse=True)
            ids[again] = settle(as_floats(points[again]), place, column, self.centroids, self.origin)

    def _scores(self, x: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """[P] of pairs of centred x [N,D] and centroids; row ascends."""
        return pair_products(x, self.centred, row, column) - self.offsets[column]


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Ids int64 [N] and squared distances float32 [N] of the nearest of centroids [K,D]; as `CentroidSearch`."""
    return search_for(points, centroids)(points)


def search_for(points: Tensor, centroids: Tensor, *, origin: Tensor | None = None) -> CentroidSearch:
    """The search that is cheapest for points like these [N,D], judged by a sample of them."""
    count, width = centroids.shape
    plain = CentroidSearch(centroids, origin=origin)
    if centroids.device.type != "cpu":
        return plain
    best, cost = plain, 0.9 * count * width
    fixed = {m: BOUNDED_ROW + THIN_PRODUCT * m * (count + width) for m in DIRECTIONS if m <= width // 2}
    if len(points) < WORTH_A_BASIS or min(fixed.values(), default=cost) >= cost:
        return plain
    sample = points[:: len(points) // SAMPLE_ROWS][:SAMPLE_ROWS]
    vectors = torch.cat([plain._centre(sample), plain.centred[:: -(-count // 4096)]])
    directions = principal_directions(vectors, max(fixed))
    for m in fixed:
        if fixed[m] >= cost:
            break
        search = CentroidSearch(centroids, directions[:, :m].contiguous(), origin=plain.origin)
        new = fixed[m] + (SINGLE_SCORE * width + FOUND_PAIR) * search.candidates(sample)
        if new < cost:
            best, cost = search, new
    return best


def principal_directions(vectors: Tensor, num: int) -> Tensor:
    """Orthonormal [D,num] that hold most of the squares of vectors [N,D], the strongest first.

    By subspace iteration from a fixed start: near enough, and cheap for patches of any size.
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(vectors.shape[1], num, generator=generator, dtype=torch.float64)
    vectors = vectors.double()
    basis = torch.linalg.qr(start.to(vectors.device))[0]
    for _ in range(2):
        basis = torch.linalg.qr(vectors.T @ (vectors @ basis))[0]
    along = vectors @ basis
    return (basis @ torch.linalg.eigh(along.T @ along)[1].flip(1)).float()


def pair_products(x: Tensor, c: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Products [P] of rows of x [N,D] with rows of c [K,D]; row ascends."""
    # The product of two matrices at single places: on a CPU it reads the rows where they lie, which is ten times
    # as fast as to gather them.
    ends = torch.bincount(row, minlength=len(x)).cumsum(0)
    places = torch.sparse_csr_tensor(
        pad(ends, (1, 0)), column, x.new_zeros(len(row)), (len(x), len(c)), check_invariants=False
    )
    return torch.sparse.sampled_addmm(places, x, c.T, beta=0.0).values()


def rounding_error(lengths: Tensor, longest: Tensor, vectors: Tensor) -> Tensor:
    """Bounds [N] on the error of scores of points of the given lengths [N], in the type of `vectors` [K,D]."""
    return 4 * vectors.shape[1] ** 0.5 * torch.finfo(vectors.dtype).eps * longest * (lengths + longest)


def settle(points: Tensor, row: Tensor, column: Tensor, centroids: Tensor, origin: Tensor) -> Tensor:
    """Ids int64 [N] of points [N,D] in float64, among pairs [P] of rows and centroids that are near.

    What differs by less than even its rounding error is a tie: the lowest id.
    """
    x, c = points.double() - origin, centroids[column].double() - origin
    scores = (x[row] * c).sum(1) - 0.5 * c.square().sum(1)
    bound = rounding_error(x.norm(dim=1), c.norm(dim=1).max(), c)
    best = scores.new_full((len(x),), -torch.inf).scatter_reduce_(0, row, scores, "amax")
    equal = scores >= (best - bound)[row]
    last = column.new_full((len(x),), len(centroids))
    return last.scatter_reduce_(0, row[equal], column[equal], "amin")


with warnings.catch_warnings():  # torch says once that its sparse tensors may still change
    warnings.simplefilter("ignore", UserWarning)
    pair_products(
        torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    )
