"""What every trained potential says of itself, of whatever kind it is."""

from __future__ import annotations

from clusterflow.physics.sparse_hessian import strict_reach


class LoadedModel:
    """The part of `clusterflow.core.protocols.Potential` that only states what the model is.

    Parameters
    ----------
    model_id
        Equal id = equal predictions (on the same kind of machine).
    elements
        Those that it knows.
    level_of_theory
        Of the labels it was trained on; "" if they stated none.
    cutoff
        Neighbour radius in Å.
    layers
        How many neighbours' steps an energy reaches.
    feature_width
        Length of the feature vector of an atom.
    """

    def __init__(
        self,
        *,
        model_id: str,
        elements: tuple[str, ...],
        level_of_theory: str,
        cutoff: float,
        layers: int,
        feature_width: int,
    ) -> None:
        self._model_id, self._elements, self._level_of_theory = model_id, elements, level_of_theory
        self._cutoff, self._layers, self._feature_width = cutoff, layers, feature_width

    @property
    def model_id(self) -> str:
        """Equal id = equal predictions (on the same kind of machine)."""
        return self._model_id

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements the model knows."""
        return self._elements

    @property
    def level_of_theory(self) -> str:
        """The level of the labels it was trained on; "" if they stated none."""
        return self._level_of_theory

    @property
    def cutoff(self) -> float:
        """Neighbour radius in Å."""
        return self._cutoff

    @property
    def reach(self) -> float:
        """2 * layers * cutoff, Å: two atoms within the energy reach of a third one couple."""
        return strict_reach(self._layers, self._cutoff)

    @property
    def feature_width(self) -> int:
        """Length of the feature vector of an atom."""
        return self._feature_width
