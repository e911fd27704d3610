"""VL-BERT against the original: outputs, losses and gradients of every golden file."""

import golden_files
import golden_pretraining
import numpy as np
import pytest

from vl_models.published import translate


@pytest.mark.parametrize(
    "path", golden_files.files("vlbert_pretrain*.npz"), ids=lambda path: path.stem
)
def test_outputs_losses_and_gradients(path):
    case = golden_pretraining.case(path)
    case.check(case.run())


def test_converter_round_trip_is_exact():
    golden = golden_files.Golden(golden_files.files("vlbert_pretrain*.npz")[0])
    state = golden.state_dict(dict(translate.ALIASES["vlbert"]))
    prefixed = {f"module.{name}": value for name, value in state.items()}
    back = translate.to_torch("vlbert", translate.translate("vlbert", prefixed).arrays)
    assert sorted(back) == sorted(state)
    for name, value in state.items():
        assert np.array_equal(back[name], value), name


def test_unknown_published_name_is_named():
    with pytest.raises(KeyError, match=r"vlbert\.surprise"):
        translate.translate("vlbert", {"vlbert.surprise": np.zeros(3)})
    with pytest.raises(KeyError, match="trunk/surprise"):
        translate.to_torch("vlbert", {"trunk/surprise": np.zeros(3)})
