"""Gaussian mixtures of per-atom features, one per element, with as many components as BIC chooses.

After Dobbelaere et al. (2025), arXiv:2504.03881, eq. 5 and SI 7, and Zhu et al. (2023), arXiv:2211.09866. sklearn
runs the expectation maximisation; the fitted mixture is a record of plain arrays that scores with NumPy alone, so it
can be written as JSON and scored on a machine without sklearn.

The likelihood is a density in the space of the features as the featurizer gives them: they are standardised per
element before the fit, and the Jacobian of that (Σ ln scale) is added back. With PCA, the directions left out keep one
isotropic Gaussian of the variance they had in training (probabilistic PCA), so the density still covers the whole
feature space and an atom that is odd only in those directions still counts as novel. A density has a unit: novelties
may be negative, and their level shifts with the features, so they are comparable within one fitted model only.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.errors import InputError, ScienceError
from clusterflow.score.features import checked

COVARIANCES = ("full", "tied", "diag")
_LOG_2PI = float(np.log(2.0 * np.pi))
_QUANTILES = (0.05, 0.5, 0.95, 0.99, 1.0)
_LARGEST_REGULARISATION = 0.3  # of the unit variance of a standardised feature
_SMALLEST_SCALE = 1e-3  # of the largest scale: a feature that never moves must not get an infinite weight


@dataclass(frozen=True, slots=True)
class ElementMixture:
    """Density of the d features of one element's atoms: a mixture of k Gaussians in q ≤ d standardised coordinates.

    ``mean``, ``scale`` (d,) standardise; ``axes`` (q, d) has orthonormal rows (the identity without PCA);
    ``residual_variance`` of each of the d − q directions left out (0 when there is none); ``weights`` (k,), ``means``
    (k, q), ``covariances`` (k, q, q) of the mixture; ``bic`` (number of components → BIC in feature space) over the
    range that was tried; ``n_atoms`` given and ``n_used`` after the limit; ``regularisation`` as applied to the chosen
    number; ``quantiles`` (level → novelty in nats) of the training atoms.
    """

    element: str
    mean: FloatArray
    scale: FloatArray
    axes: FloatArray
    residual_variance: float
    weights: FloatArray
    means: FloatArray
    covariances: FloatArray
    bic: Mapping[int, float]
    n_atoms: int
    n_used: int
    regularisation: float
    converged: bool = True
    quantiles: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        """d, what the featurizer gives."""
        return int(self.mean.size)

    @property
    def n_components(self) -> int:
        """k, as chosen by BIC."""
        return int(self.weights.size)

    def score(self, features: FloatArray) -> FloatArray:
        """Negative log-likelihood in nats, (n,), of ``features`` (n, d).

        Raises
        ------
        ScienceError
            Another number of features than the fit had, or values that are NaN or infinite.
        """
        x = checked(features, self.element)
        if x.shape[1] != self.n_features:
            raise ScienceError(
                f"The mixture of {self.element} was fitted to {self.n_features} features, but {x.shape[1]} were given.",
                todo="Score with the model whose features the mixture was fitted to, or fit again.",
            )
        y, outside = _project((x - self.mean) / self.scale, self.axes, self.residual_variance)
        return outside + float(np.log(self.scale).sum()) - _log_mixture(y, self.weights, self.means, self.covariances)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data at full precision; `from_json` is the inverse."""
        data = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}
        data["bic"] = {str(k): v for k, v in self.bic.items()}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        arrays = ("mean", "scale", "axes", "weights", "means", "covariances")
        values: dict[str, Any] = {k: np.asarray(v, dtype=np.float64) if k in arrays else v for k, v in data.items()}
        values["bic"] = {int(k): float(v) for k, v in data["bic"].items()}
        return cls(**values)


def _project(z: FloatArray, axes: FloatArray, residual_variance: float) -> tuple[FloatArray, FloatArray]:
    """Coordinates (n, q) of standardised features and the negative log-likelihood (n,) of what they leave out."""
    y: FloatArray = z @ axes.T
    left = z.shape[1] - axes.shape[0]
    if left == 0:
        return y, np.zeros(len(z))
    distance2 = np.sum((z - y @ axes) ** 2, axis=1)
    return y, 0.5 * (distance2 / residual_variance + left * (_LOG_2PI + np.log(residual_variance)))


def _log_mixture(y: FloatArray, weights: FloatArray, means: FloatArray, covariances: FloatArray) -> FloatArray:
    """ln Σ_m a_m N(y; μ_m, Σ_m), (n,), by Cholesky factors and log-sum-exp."""
    q = y.shape[1]
    cholesky = np.linalg.cholesky(covariances)
    logs = np.empty((len(weights), len(y)))
    for m, (weight, mean, lower) in enumerate(zip(weights, means, cholesky, strict=True)):
        whitened = (y - mean) @ np.linalg.inv(lower).T
        log_norm = 0.5 * q * _LOG_2PI + np.log(np.diag(lower)).sum()
        logs[m] = np.log(weight) - log_norm - 0.5 * np.einsum("nq,nq->n", whitened, whitened)
    top = logs.max(axis=0)
    return np.asarray(top + np.log(np.exp(logs - top).sum(axis=0)), dtype=np.float64)


def fit_elements(
    features: Mapping[str, FloatArray],
    *,
    components: tuple[int, int] = (1, 10),
    pca: int | float | None = None,
    covariance: str = "full",
    seed: int = 0,
    regularisation: float = 1e-5,
    max_atoms: int = 20_000,
) -> dict[str, ElementMixture]:
    """One mixture per element, from ``features`` (element → (n, d)); see `GaussianMixtureNovelty` for the settings.

    Raises
    ------
    InputError
        A setting that makes no sense.
    ScienceError
        No atoms, features that are not finite, or elements with different numbers of features.
    """
    check_settings(components, pca, covariance, regularisation, max_atoms)
    given = {e: checked(x, e) for e, x in sorted(features.items()) if len(x)}
    widths = {e: x.shape[1] for e, x in given.items()}
    if not given or len(set(widths.values())) != 1 or 0 in widths.values():
        raise ScienceError(
            f"A density needs atoms with equally many features; per element there are: {widths or 'none'}.",
            todo="Fit on at least one training frame, with features of one model.",
        )
    used = {e: _subsample(x, max_atoms, _seed(seed, e)) for e, x in given.items()}
    # Atoms of other elements tell how much a feature usually varies: all that is known for an element with one atom.
    n_total = sum(len(x) for x in used.values())
    pooled = sum(x.var(axis=0) * len(x) for x in used.values()) / n_total
    return {
        e: _fit_one(
            e,
            x,
            n_given=len(given[e]),
            pooled_variance=pooled,
            components=components,
            pca=pca,
            covariance=covariance,
            seed=_seed(seed, e),
            regularisation=regularisation,
        )
        for e, x in used.items()
    }


def check_settings(
    components: tuple[int, int], pca: int | float | None, covariance: str, regularisation: float, max_atoms: int
) -> None:
    low, high = components
    problem = ""
    if not 1 <= low <= high:
        problem = f"The range of the number of components is {low} to {high}: it must rise and start at 1 or more."
    elif pca is not None and not (0.0 < pca < 1.0 if isinstance(pca, float) else pca >= 1):
        problem = (
            f"pca is {pca}: give a number of dimensions (1 or more), a fraction of the variance (0 to 1), or none."
        )
    elif covariance not in COVARIANCES:
        problem = f"The covariance is '{covariance}': it may be {', '.join(COVARIANCES)}."
    elif not 0.0 < regularisation < _LARGEST_REGULARISATION:
        problem = f"The regularisation is {regularisation}: it must lie between 0 and {_LARGEST_REGULARISATION}."
    elif max_atoms < 2:
        problem = f"max_atoms is {max_atoms}: it must be 2 or more."
    if problem:
        raise InputError(problem, where="settings of the Gaussian mixture", todo="Correct it; the defaults are safe.")


def _seed(seed: int, element: str) -> int:
    """A seed per element, so that a new element does not change the mixtures of the others."""
    return int(np.random.SeedSequence([seed, zlib.crc32(element.encode())]).generate_state(1)[0])


def _subsample(x: FloatArray, limit: int, seed: int) -> FloatArray:
    if len(x) <= limit:
        return x
    return x[np.sort(np.random.default_rng(seed).choice(len(x), limit, replace=False))]


def _scale(x: FloatArray, pooled_variance: FloatArray) -> FloatArray:
    """Standard deviation per feature (d,), with the pooled variance counting as one more atom, and never zero."""
    variance = (x.var(axis=0) * len(x) + pooled_variance) / (len(x) + 1)
    scale = np.sqrt(variance)
    # Spread at the level of rounding (features come as float32) is no spread.
    floor = max(_SMALLEST_SCALE * float(scale.max()), 1e-6 * float(np.abs(x).max()))
    return np.asarray(np.maximum(scale, floor if floor > 0 else 1.0), dtype=np.float64)


def _regularisation(n_atoms: int, n_dimensions: int, n_components: int, least: float) -> float:
    """What is added to the variances (unit 1 after standardising), for the atoms that one component has.

    0.1 ((q+1) k / n)³, cut at 0.3: negligible for n ≫ q k, strong where a covariance from so few atoms would be
    singular. It follows the best held-out likelihood of Gaussian samples with 8 and 16 dimensions, 6 to 400 atoms
    and condition numbers of 10² to 10⁵ (docs/concepts/novelty.md).
    """
    return float(np.clip(0.1 * ((n_dimensions + 1) * n_components / n_atoms) ** 3, least, _LARGEST_REGULARISATION))


def largest_number_of_components(n_atoms: int, n_distinct: int, n_dimensions: int, wanted: int) -> int:
    """At most ``wanted``, at least 1: a component needs two atoms per mean and covariance row, 2 (q + 1), to be a
    statement about a density, and k-means needs distinct points."""
    return max(1, min(wanted, n_atoms // (2 * (n_dimensions + 1)), n_distinct))


def _principal_axes(z: FloatArray, pca: int | float | None) -> tuple[FloatArray, float]:
    """Orthonormal rows (q, d) that span the training data best, and the mean variance of what they leave out."""
    d = z.shape[1]
    if pca is None:
        return np.eye(d), 0.0
    variances, vectors = np.linalg.eigh(z.T @ z / len(z))
    variances, vectors = np.clip(variances[::-1], 0.0, None), vectors[:, ::-1]
    if isinstance(pca, float):
        total = variances.sum()
        kept = np.cumsum(variances) / total if total > 0 else np.ones(d)
        q = int(np.searchsorted(kept, pca - 1e-12)) + 1
    else:
        q = int(pca)
    q = min(q, d)
    axes = vectors[:, :q].T.copy()
    # The sign of an eigenvector is arbitrary; fix it, so that equal data give equal numbers on every machine.
    axes *= np.where(axes[np.arange(q), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    return axes, float(variances[q:].mean()) if q < d else 0.0


def _fit_one(
    element: str,
    x: FloatArray,
    *,
    n_given: int,
    pooled_variance: FloatArray,
    components: tuple[int, int],
    pca: int | float | None,
    covariance: str,
    seed: int,
    regularisation: float,
) -> ElementMixture:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    n, d = x.shape
    mean, scale = x.mean(axis=0), _scale(x, pooled_variance)
    z = (x - mean) / scale
    axes, residual = _principal_axes(z, pca)
    if len(axes) < d:
        residual += _regularisation(n, d - len(axes), 1, regularisation)
    y, outside = _project(z, axes, residual)
    shift = 2.0 * n * (float(np.log(scale).sum()) + float(outside.mean()))  # BIC of standardised → of given features
    q = y.shape[1]
    high = largest_number_of_components(n, len(np.unique(y, axis=0)), q, components[1])
    bic: dict[int, float] = {}
    best: Any = None
    for k in range(min(components[0], high), high + 1):
        model = GaussianMixture(
            n_components=k,
            covariance_type=covariance,
            reg_covar=_regularisation(n, q, k, regularisation),
            max_iter=300,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            # One atom is a density too (its regularised neighbourhood); sklearn wants two samples.
            model.fit(y if n > 1 else np.repeat(y, 2, axis=0))
        bic[k] = float(model.bic(y)) + shift
        if best is None or bic[k] < bic[best.n_components]:
            best = model
    mixture = ElementMixture(
        element=element,
        mean=mean,
        scale=scale,
        axes=axes,
        residual_variance=residual,
        weights=np.asarray(best.weights_, dtype=np.float64),
        means=np.asarray(best.means_, dtype=np.float64),
        covariances=_full_covariances(best),
        bic=bic,
        n_atoms=n_given,
        n_used=n,
        regularisation=float(best.reg_covar),
        converged=bool(best.converged_),
    )
    nll = mixture.score(x)
    return replace(mixture, quantiles={f"{level:g}": float(np.quantile(nll, level)) for level in _QUANTILES})


def _full_covariances(model: Any) -> FloatArray:
    """sklearn's covariances of any type as (k, q, q)."""
    c = np.asarray(model.covariances_, dtype=np.float64)
    if model.covariance_type == "tied":
        return np.repeat(c[None], model.n_components, axis=0)
    if model.covariance_type == "diag":
        return np.asarray(c[:, :, None] * np.eye(c.shape[1]), dtype=np.float64)
    return c
