"""What predictions are worth, in sentences."""

from __future__ import annotations

import numpy as np

from resume_lab.report import facts
from resume_lab.report.forecast import Surface
from resume_lab.tuning.results import CostModel, Recommendation, TuningResult


def foretold(advice: Recommendation | None) -> str:
    """Compare the predicted recall with the measured one; empty without a prediction."""
    if advice is None or advice.predicted_recall is None:
        return ""
    return f"Predicted recall {advice.predicted_recall:.3f}, measured {advice.recall:.3f}."


def predicted_table(surface: Surface) -> str:
    """Say what a table of forecasts holds."""
    if surface.target_recall is not None:
        return (
            f"For each lists the fewest probes predicted to reach recall {surface.target_recall:g}."
        )
    if surface.max_ms is not None:
        return f"For each lists the most probes predicted to take at most {surface.max_ms:g} ms."
    return "No target was given."


def best_forecast(surface: Surface) -> str:
    """Say in what the marked forecast is the best; empty where none meets the aim."""
    if surface.cheapest() is None:
        return ""
    if surface.target_recall is None:
        return "highest recall"
    return "fewest rows and centroids to compare with" if surface.cost is None else "fastest"


def prediction_error(result: TuningResult) -> str:
    """Say how far predicted recalls lie from measured ones; empty without predictions."""
    pairs = [
        (p.recall, p.predicted_recall) for p in result.points if p.predicted_recall is not None
    ]
    if not pairs:
        return ""
    off = np.abs(np.diff(np.array(pairs), axis=1))
    return (
        f"At the {len(pairs)} measured points predicted and measured recall are {off.mean():.3f} "
        f"apart on average, {off.max():.3f} at most."
    )


def cost(model: CostModel | None) -> str:
    """Write out the model of a query's time with its error; empty without one."""
    if model is None:
        return ""
    parts = [
        (model.fixed_ms, ""),
        (1000 * model.list_ms, " per 1,000 lists"),
        (1000 * model.row_ms, " per 1,000 rows read"),
    ]
    said = " + ".join(f"{facts.ms_text(ms)}{per}" for ms, per in parts if ms > 0)
    error = (
        "too few to say how well"
        if model.error is None
        else f"half of them differ from it by {model.error:.1%} or less"
    )
    return f"Predicted p50: {said or '0 ms'}, fitted to {model.n_points} measured points; {error}."
