"""The picture of a verdict."""

import os
from pathlib import Path

import numpy as np

from common import write_whole
from reporting import figures

DEMONSTRATION = "DEMONSTRATION: trained on generated videos, it says nothing about real ones"


def short(path):
    """A checkpoint's name in a legend: the last two folders of runs/RUN/model.pt."""
    parts = Path(path).parts
    return ascii(
        "/".join(parts[-3:-1] if parts[-1] == "model.pt" and len(parts) > 1 else parts[-2:])
    )[1:-1][-40:]


def draw(path, video, people, detectors, plans):
    """The picture of a verdict: for each person (four at most) the scores over time, and the faces with the highest and the lowest."""
    import torch

    plt = figures.pyplot()
    rows = video["people"][:4]
    able = [
        d
        for d in detectors
        if any(one["checkpoint"] == str(d.path) for person in rows for one in person["by"])
    ]
    chief = next((d for d in able if d.maps), able[0])  # whose faces to show
    step, unit = (
        (video["seconds"] / video["frames"], "s") if video["seconds"] else (1, "frame")
    )  # of the time axis
    height = 2.1 if chief.maps else 1.75
    figure = plt.figure(figsize=(figures.PAGE, 0.85 + height * len(rows)), layout="constrained")
    outer = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, person, samples in zip(outer, rows, people):
        left, right = part.subfigures(1, 2, width_ratios=(1, 1.15))
        axes = left.subplots()
        for k, one in enumerate(person["by"]):
            x, y = zip(*((s["frame"] * step, s["score"]) for s in one["samples"]))
            axes.plot(
                x,
                y,
                "o-",
                color=figures.COLOURS[k % len(figures.COLOURS)],
                markersize=3,
                linewidth=1,
                label=short(one["checkpoint"]),
            )
        axes.axhline(person["threshold"], color="0.3", linewidth=1, linestyle="--")
        axes.axhspan(person["threshold"], 1.03, color="#D55E00", alpha=0.08, linewidth=0)
        axes.text(
            0.99,
            person["threshold"],
            "threshold ",
            fontsize=6,
            ha="right",
            va="bottom",
            transform=axes.get_yaxis_transform(),
        )
        axes.set(
            ylim=(-0.03, 1.03),
            xlim=(0, video["frames"] * step),
            xlabel={"s": "seconds", "frame": "frame"}[unit],
            ylabel="P(fake)",
        )
        who = f"person {person['person']}: " if len(video["people"]) > 1 else ""
        axes.set_title(
            f"{who}{person['verdict'].upper()}, P(fake) {shown(person['score'])}, {faces(person)}",
            fontsize=8,
            loc="left",
            fontweight="bold",
        )
        if len(person["by"]) > 1:
            axes.legend(fontsize=6, frameon=False)
        scored = next((one for one in person["by"] if one["checkpoint"] == str(chief.path)), None)
        if scored is None:
            continue
        crops = [c for k, _, _, c in samples if plans[k] == chief.plan]
        order = np.argsort([-s["score"] for s in scored["samples"]], kind="stable")
        chosen = [*order[:3], *order[-3:]] if len(order) > 5 else list(order)
        grid = right.subplots(2 if chief.maps else 1, len(chosen), squeeze=False)
        images = [crops[k][chief.frames // 2] for k in chosen]
        if chief.maps:
            with torch.inference_mode():
                clips = (
                    torch.from_numpy(np.stack([crops[k][: chief.frames] for k in chosen]))
                    .permute(0, 1, 4, 2, 3)
                    .to(chief.device)
                    / 255
                )
                maps = torch.nn.functional.interpolate(
                    torch.cat([chief.maps(clip[None]) for clip in clips]),
                    size=clips.shape[-2:],
                    mode="bilinear",
                )
            maps = maps[:, chief.frames // 2].cpu().numpy()
            top = np.abs(maps).max() or 1.0
        for column, (k, face) in enumerate(zip(chosen, images)):
            grid[0, column].imshow(face)
            sample = scored["samples"][k]
            grid[0, column].set_title(
                f"{sample['score']:.2f}\n{sample['frame'] * step:{'.1f' if unit == 's' else ''}} {unit}",
                fontsize=6,
                pad=2,
            )
            if chief.maps:
                grid[1, column].imshow(face.mean(-1), cmap="gray", vmin=0, vmax=255)
                grid[1, column].imshow(maps[column], cmap="RdBu_r", vmin=-top, vmax=top, alpha=0.55)
        for panel in grid.flat:
            panel.set_axis_off()
        right.suptitle(
            "highest and lowest scores"
            + (f" of {short(chief.path)}" if len(detectors) > 1 else "")
            + ("\nmaps: red speaks for fake, blue for real" if chief.maps else ""),
            fontsize=7,
        )
    name = ascii(os.path.basename(video["path"]))[1:-1]
    more = (
        f"; {len(video['people']) - 4} more people in verdicts.csv"
        if len(video["people"]) > 4
        else ""
    )
    figure.suptitle(
        f"{name if len(name) < 70 else name[:67] + '...'}: {video['verdict'].upper()}{more}"
        + ("\n" + DEMONSTRATION if video["demonstration"] else ""),
        fontsize=9,
        color="#A00000" if video["demonstration"] else "black",
    )
    with write_whole(path) as part:
        figure.savefig(part, dpi=200, format="png", metadata={"Software": None})
    plt.close(figure)


def shown(value):
    """A score for people: 3 decimals, 6 near 0 and 1."""
    return f"{value:.3f}" if 0.001 <= value <= 0.999 else f"{value:.6f}"


def faces(person):
    """On how much a verdict rests: "30 faces"."""
    return f"{person['faces']} face{'s' * (person['faces'] != 1)}"
