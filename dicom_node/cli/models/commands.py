"""What the commands about models take."""

from __future__ import annotations

from pathlib import Path

from dicom_node.cli.command import Commands, add_command


def models(commands: Commands) -> None:
    models = commands.add_parser("models", help="the models the node can run")
    below = models.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "list", "list the models that are found, verified", "models.candidates:list_models", json=True)
    command = add_command(below, "verify", "look at a model without running it", "models.governance:verify", json=True)
    command.add_argument("model", nargs="?", metavar="NAME|FOLDER", help="a model or a folder; default: every model")
    command = add_command(
        below,
        "ready",
        "cards that come with the node for weights it does not have",
        "models.governance:ready",
        json=True,
    )
    command.add_argument("card", nargs="?", default="", metavar="CARD", help="show this card; default: a list")
    _models_taken_in(below)
    _models_that_run(below)
    _bench(below)


def _models_taken_in(below: Commands) -> None:
    command = add_command(below, "add", "copy a model into the node's models, if it verifies", "models.governance:add")
    command.add_argument(
        "source",
        type=Path,
        metavar="PATH",
        help="model folder with its model_card.toml, MONAI Bundle, unpacked application package (MAP), or checkpoint",
    )
    command.add_argument("--card", default="", metavar="CARD|FILE", help="its card: one of `models ready`, or a file")
    command.add_argument("--weights", type=Path, metavar="FILE", help="its weights, where they are not in the folder")
    command.add_argument("--replace", action="store_true", help="take the place of the version that is there")
    command = add_command(below, "accept", "let the code and weights of a model run", "models.governance:accept")
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument(
        "--digest", default="", help="beginning of the folder digest you looked at; others are refused"
    )
    command.add_argument("--withdraw", action="store_true", help="take an earlier acceptance back")
    command.add_argument("--rerun", action="store_true", help="analyse again what the model was not run for before")
    command = add_command(
        below, "decisions", "who accepted or activated what, and when", "models.governance:decisions", json=True
    )
    command.add_argument("model", nargs="?", metavar="NAME", help="name of a model; default: every model")


def _models_that_run(below: Commands) -> None:
    command = add_command(
        below,
        "activate",
        "run a model's golden studies; it goes live if they hold",
        "models.governance:activate",
        json=True,
    )
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument("--without-golden", action="store_true", help="activate a model that has no golden studies")
    command.add_argument("--pictures", type=Path, metavar="FOLDER", help="leave pictures of every answer there")
    command.add_argument("--rerun", action="store_true", help="analyse again what the model was not run for before")
    command = add_command(
        below, "try", "run models once on a phantom; their code runs", "models.candidates:try_models", json=True
    )
    command.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folder of a model, or of a MONAI Bundle, which needs no card",
    )
    command.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="leave pictures of the answers there, a folder for each model with a card",
    )
    command.add_argument(
        "--task",
        choices=("classification", "regression", "segmentation", "detection"),
        help="what it is for; default: what its metadata say",
    )
    command.add_argument("--output", metavar="NAME", default="pred", help="what it leaves its answer in")
    command.add_argument("--shape", metavar="C,[Z,]Y,X", help="channels, slices, rows and columns to give it")
    command.add_argument("--device", default="cpu", help="where to run it, such as cpu or cuda:0")


def _bench(below: Commands) -> None:
    command = add_command(
        below, "bench", "measure studies and images a second, cold and warm", "models.bench:bench_model", json=True
    )
    command.add_argument("model", metavar="NAME", help="name of the model")
    command.add_argument("--study", type=Path, help="folder with a study it takes; default: a phantom that fits")
    command.add_argument("--rounds", type=int, default=10, help="warm studies")
    command.add_argument("--device", default="", help="device instead of inference.device, such as cpu or cuda:0")


def run(commands: Commands) -> None:
    command = add_command(commands, "run", "run a model on files, without a node", "models.run:run_model", json=True)
    command.add_argument("model", metavar="MODEL", help="name of a model, or its folder, which is verified first")
    command.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="DICOM files, folders with all below, zip archives"
    )
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets a folder for each study")
    command.add_argument("--nifti", action="store_true", help="also each mask as NIfTI, on the grid of the images")
    command.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    command.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="in place of a parameter of the model's card (repeatable)",
    )


def evaluate(commands: Commands) -> None:
    command = add_command(
        commands,
        "evaluate",
        "measure a model on labelled images, by the node's own runner",
        "models.evaluate:evaluate",
        json=True,
    )
    command.add_argument("model", metavar="MODEL", help="name of the model")
    command.add_argument("--data", type=Path, required=True, help="folder of the images: DICOM, PNG, JPEG")
    command.add_argument("--labels", type=Path, required=True, help="CSV: a column image, and one with what is true")
    command.add_argument("--finding", default="", metavar="KEY", help="which finding; default: the only one")
    command.add_argument("--label", default="", metavar="COLUMN", help="column of the truth; default: KEY, or label")
    command.add_argument(
        "--positive", action="append", default=[], metavar="WORD", help="means it is there (repeatable)"
    )
    command.add_argument(
        "--group", action="append", default=[], metavar="COLUMN", help="figures per value (repeatable)"
    )
    command.add_argument("--patient", default="", metavar="COLUMN", help="images of one patient belong together")
    command.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="KEYWORD=VALUE",
        help="what holds of every picture, such as Modality=DX (repeatable)",
    )
    command.add_argument("--sample", type=int, default=0, metavar="N", help="only N images, drawn at random")
    command.add_argument("--seed", type=int, default=0, help="of the sample and of the bootstrap")
    command.add_argument("--resamples", type=int, default=1000, help="draws of the bootstrap")
    command.add_argument("--out", type=Path, help="folder of the report; default: evaluation-MODEL")
