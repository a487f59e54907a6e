"""Runs in jumpmodels' environment: fit the three published models on train.csv, infer on test.csv, leave fits.json.

The frames hold features by date and lie in the folder named on the command line; they are clipped and standardised as
in the repository's example. Each fit leaves its centres and the probabilities of both inferences, calm first.
"""

import json
import sys
import warnings
from pathlib import Path

import pandas as pd
from jumpmodels.jump import JumpModel
from jumpmodels.preprocess import DataClipperStd, StandardScalerPD
from jumpmodels.sparse_jump import SparseJumpModel

warnings.simplefilter("ignore")


def main(folder: Path) -> None:
    train, test = (pd.read_csv(folder / f"{name}.csv", index_col=0, parse_dates=True) for name in ("train", "test"))
    clipper, scaler = DataClipperStd(mul=3.0), StandardScalerPD()
    train = scaler.fit_transform(clipper.fit_transform(train))
    test = scaler.transform(clipper.transform(test))
    models = {
        "discrete": JumpModel(n_components=2, jump_penalty=50.0),
        "sparse": SparseJumpModel(n_components=2, max_feats=3.0, jump_penalty=50.0),
        "continuous": JumpModel(n_components=2, jump_penalty=600.0, cont=True),
    }
    found = {}
    for name, model in models.items():
        model.fit(train, train.iloc[:, 0], sort_by="vol")
        online, offline = model.predict_proba_online(test), model.predict_proba(test)
        found[name] = {
            "centers": model.centers_.tolist(),
            "online": online.to_numpy().tolist(),
            "offline": offline.to_numpy().tolist(),
        }
    (folder / "fits.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
