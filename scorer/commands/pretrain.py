"""`routerd pretrain`: everything that ships, made anew by the commands that its cards print."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, split

if TYPE_CHECKING:
    from scorer.pretraining.recipes import Recipe, Recipes

LARGEST = 40_000_000  # bytes, of all together


@click.command()
@click.option("--data", type=FILE, required=True, help="Where the public data lies (docs/pretraining.md).")
@click.option("--out", type=FILE, required=True, help="Like scorer/pretrained; it must not exist yet.")
@click.option("--only", help="Some of it, comma-separated: minilm/mf,static/mf,...")
@click.option("--work", type=FILE, help="Where things are made, and found again by another run; OUT.work by default.")
def pretrain(data: Path, out: Path, only: str | None, work: Path | None) -> None:
    """Make everything that ships from public data; needs routerd[train,evaluate], and more for some of it."""
    from scorer.artifacts import ArtifactError
    from scorer.pretraining import cards
    from scorer.pretraining.recipes import Recipes, choose

    chosen = choose(split(only or ""))
    if out.exists():
        raise ArtifactError(f"{out}: exists already; nothing is ever overwritten")
    for recipe in chosen:
        cards.prose(recipe)  # else a fault in one would be found when all is made
    _check_data(data, chosen)
    recipes = Recipes(chosen, data, work or out.with_name(f"{out.name}.work"))
    _check_work(recipes)
    for number, recipe in enumerate(chosen, start=1):
        click.echo(f"[{number}/{len(chosen)}] {recipe.place}")
        _make(recipes, recipe)
    for encoder in dict.fromkeys(recipe.encoder for recipe in chosen if recipe.is_router):
        _run(recipes.evaluate(encoder))
    _write_cards(recipes)
    _weigh(recipes)
    _publish(recipes, out)
    if not work:
        shutil.rmtree(recipes.work)


def _check_data(data: Path, chosen: Sequence[Recipe]) -> None:
    from scorer.tables import DataError

    missing = sorted({file for recipe in chosen for file in recipe.files if not (data / file).is_file()})
    if missing:
        raise DataError(f"{data}: lacks {', '.join(missing)}")


def _check_work(recipes: Recipes) -> None:
    """What is found there must be of this command, and made from the same data."""
    from scorer.tables import DataError

    kept = recipes.work / "data.json"
    if not kept.is_file() and recipes.work.exists() and any(recipes.work.iterdir()):
        raise DataError(f"{recipes.work}: holds something else; give another --work")
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    now = recipes.digests()
    changed = sorted(file for file in before.keys() & now.keys() if before[file] != now[file])
    if changed:
        raise DataError(f"{recipes.work}: was made from another {', '.join(changed)}; give another --work")
    recipes.work.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(before | now, indent=1) + "\n", encoding="utf-8")


def _make(recipes: Recipes, recipe: Recipe) -> None:
    if recipes.is_made(recipe):
        click.echo(f"found in {recipes.work}")
        return
    for file, command in recipes.imports(recipe).items():
        if not file.exists():
            _run(command)
    _run(recipes.make(recipe))


def _run(arguments: Sequence[str]) -> None:
    """A command of this program, in this process; its faults are ours."""
    click.echo(f"$ {shlex.join(['routerd', *arguments])}")
    program = click.get_current_context().find_root().command
    program.main(list(arguments), prog_name="routerd", standalone_mode=False)


def _write_cards(recipes: Recipes) -> None:
    from scorer.pretraining import cards

    for recipe in recipes.chosen:
        (recipes.made(recipe) / cards.CARD).write_text(cards.written(recipes, recipe), encoding="utf-8")


def _weigh(recipes: Recipes) -> None:
    """Says what each takes; together they must not take too much."""
    from scorer.artifacts import ArtifactError

    sizes = {recipe.place: _size(recipes.made(recipe)) for recipe in recipes.chosen}
    total = sum(sizes.values())
    width = max(map(len, sizes))
    for place, size in (sizes | {"together": total}).items():
        click.echo(f"{place:{width}}  {size / 1e6:6.2f} MB")
    if total > LARGEST:
        raise ArtifactError(f"{total / 1e6:.2f} MB together: more than {LARGEST / 1e6:g} MB do not ship")


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _publish(recipes: Recipes, out: Path) -> None:
    """Copies beside its place, then renames: it is there whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        whole = Path(folder) / out.name
        for recipe in recipes.chosen:
            shutil.copytree(recipes.made(recipe), whole / recipe.place)
        whole.rename(out)
    click.echo(out)
