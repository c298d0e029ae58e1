"""Several studies through one network call: each is worked on by itself until it asks the model, then all ask together.

The works take turns like coroutines: one thread for each, but only one of them ever runs, so that nothing in a model,
a library or a builder has to be safe for threads. Whatever fails, fails for its own study only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dicom_node.inference.prediction import Explanation, LoadedModel, ModelInput, Prediction

Result = TypeVar("Result")
_here = threading.local()


@dataclass(slots=True, eq=False)
class _Question:
    """What one work asks, and the answer or the error it gets."""

    model: LoadedModel
    inputs: Sequence[ModelInput]
    answer: Sequence[Prediction] = ()
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class _Turn(Generic[Result]):
    """One work in its thread: it runs between `go` and `rest`, and rests with a question or at its end."""

    work: Callable[[], Result]
    go: threading.Event = field(default_factory=threading.Event)
    rest: threading.Event = field(default_factory=threading.Event)
    question: _Question | None = None
    result: list[Result] = field(default_factory=list)
    error: BaseException | None = None

    def run(self) -> None:
        _here.turn = self
        self._wait()
        try:
            self.result.append(self.work())
        except BaseException as error:  # noqa: BLE001 - raised again where the works were started
            self.error = error
        self.rest.set()

    def ask(self, question: _Question) -> Sequence[Prediction]:
        self.question = question
        self.rest.set()
        self._wait()
        if question.error is not None:
            raise question.error
        return question.answer

    def step(self) -> None:
        """Let it run until it rests."""
        self.question = None
        self.rest.clear()
        self.go.set()
        self.rest.wait()

    def _wait(self) -> None:
        self.go.wait()
        self.go.clear()


def run_together(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return what each work returns, in order; models they got through `asked_together` answer them together.

    An error of a work is raised when all have ended; let works return errors that are theirs alone.
    """
    turns = [_Turn(work) for work in works]
    threads = [threading.Thread(target=turn.run, daemon=True) for turn in turns]
    for thread in threads:
        thread.start()
    resting = turns
    while resting:
        for turn in resting:
            turn.step()
        resting = [turn for turn in turns if turn.question is not None]
        _answer([turn.question for turn in resting if turn.question is not None])
    for thread in threads:
        thread.join()
    for turn in turns:
        if turn.error is not None:
            raise turn.error
    return [turn.result[0] for turn in turns]


def asked_together(model: LoadedModel) -> LoadedModel:
    """Return the model as a work of `run_together` sees it; to anybody else it is the model itself."""
    turn: _Turn[object] | None = getattr(_here, "turn", None)
    return model if turn is None or model.batch_limit < 2 else _Shared(model, turn, model.size_bytes, model.batch_limit)


@dataclass(slots=True)
class _Shared:
    """A model whose predictions wait for those that others ask of it (`prediction.LoadedModel`)."""

    model: LoadedModel
    turn: _Turn[object]
    size_bytes: int
    batch_limit: int

    @property
    def told(self) -> tuple[str, ...]:
        return tuple(getattr(self.model, "told", ()))

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        return self.turn.ask(_Question(self.model, inputs))

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        return self.model.explain(one, output_index)


# --- answering ---------------------------------------------------------------------------------------------------


def _answer(questions: Sequence[_Question]) -> None:
    """Answer the questions to each model together, as many inputs at once as it takes."""
    for model in {id(question.model): question.model for question in questions}.values():
        _answer_all(model, [question for question in questions if question.model is model])


def _answer_all(model: LoadedModel, questions: Sequence[_Question]) -> None:
    inputs = [one for question in questions for one in question.inputs]
    try:
        found = iter(_predicted(model, inputs))
        for question in questions:
            question.answer = [next(found) for _ in question.inputs]
    except Exception as error:  # noqa: BLE001 - whose input it was shows when each is asked alone
        if len(questions) == 1:
            questions[0].error = error
            return
        for question in questions:
            _answer_all(model, [question])


def _predicted(model: LoadedModel, inputs: Sequence[ModelInput]) -> list[Prediction]:
    found: list[Prediction] = []
    for start in range(0, len(inputs), model.batch_limit):
        found.extend(model.predict(inputs[start : start + model.batch_limit]))
    return found
