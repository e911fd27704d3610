"""The feature spec that a trained model's checkpoint carries."""

from core import remote, strict_json
from core.errors import DataError
from input_pipeline.regions.spec import FeatureSpec


def saved_spec(path: str) -> tuple[FeatureSpec, str]:
    """(spec, its file) of the newest checkpoint of a run.

    Args:
      path: a run's folder, its `checkpoints` folder, or the folder of one step.

    Raises:
      DataError: no checkpoint there, or one that says nothing of features.
    """
    folder = remote.path(path)
    places = [folder, folder / "checkpoints"]
    # Orbax keeps the JSON item `meta` of a step in one file.
    files = [folder / "meta" / "metadata"] + [
        step / "meta" / "metadata"
        for place in places
        if place.is_dir()
        for step in sorted(
            (p for p in place.iterdir() if p.name.isdigit()), key=lambda p: -int(p.name)
        )
    ]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise DataError(
            "no checkpoint",
            where=path,
            expected="a run's folder, its folder 'checkpoints', or the folder of one step",
            found="none of them" if folder.exists() else "no such folder",
            fix="check --checkpoint",
        )
    try:
        values = strict_json.parse(file.read_bytes())["facts"]["feature_spec"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "a checkpoint says nothing of the features it was trained on",
            where=str(file),
            expected="JSON with facts.feature_spec",
            found=f"{type(error).__name__}: {error}",
        ) from error
    return FeatureSpec.from_dict(values, str(file)), str(file)
