"""Record the calls of a Pipecat pipeline behind a websocket: an observer, the pipeline stays as it is.

::

    observer = BluejayObserver(transport)
    worker = PipelineWorker(pipeline, observers=[observer])    # or PipelineTask, in older releases

For both of Pipecat's websocket transports. Inside a FastAPI endpoint under ``@record`` it adds to the endpoint's call;
elsewhere it opens a call of its own for each client that connects, if the connect request names one. What is said by
the frames is in ``bluejay_ws.integrations.pipecat_frames``. Needs Pipecat 1.0 or later:
``pip install 'bluejay_ws[pipecat]'``.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bluejay_ws.client import default_client
from bluejay_ws.current import INERT, current_recorder
from bluejay_ws.exceptions import BluejayError
from bluejay_ws.integrations.pipecat_frames import PipecatTap
from bluejay_ws.wire.ids import checked_sources, header_values, ids_in_message, usable_id
from bluejay_ws.wire.platform import ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipecat.observers.base_observer import (  # type: ignore[import-not-found, unused-ignore]
        BaseObserver,  # pyright: ignore[reportMissingImports]
        FramePushed,
    )

    from bluejay_ws.call import Call
    from bluejay_ws.client import Bluejay
    from bluejay_ws.recorder import Recorder
    from bluejay_ws.wire.ids import IdSource
else:
    try:
        from pipecat.observers.base_observer import BaseObserver
    except ImportError:
        BaseObserver = object

__all__ = ["BluejayObserver", "MissingPipecatError", "TransportCalls"]

logger = logging.getLogger("bluejay_ws")

# Frames that were pushed before the caller hung up may still wait for their observer. A recorder whose
# connection has closed is open for 50 ms more: take those in, and then the words that are left.
DRAIN = 0.02

# Adapters are strangers to each other: these are looked up when the transport turns out to need one.
_STARLETTE = "bluejay_ws.servers.starlette"
_WEBSOCKETS = "bluejay_ws.servers.websockets"


class MissingPipecatError(BluejayError, ImportError):
    """Say that Pipecat is not installed, and how to install it."""

    def __str__(self) -> str:
        return "pipecat is not installed; run: pip install 'bluejay_ws[pipecat]'"


class BluejayObserver(BaseObserver):  # type: ignore[misc, unused-ignore]
    """Observe a pipeline and record its calls: what was said, tools, interruptions, with Pipecat's own times.

    One observer serves one transport: build it where the transport is built, and give it to the pipeline's worker (or
    task) in ``observers``. It changes nothing, and no error of its own reaches Pipecat. With the server transport, a
    second client that is refused is no call.

    Args:
        transport: the pipeline's websocket transport. The pipeline must contain its ``output()``.
        client: a configured client; default one made from the environment at the first simulated call.
        id_from: where a call's id may stand; see `record`. With ``"message"`` the id may also be given late, by
            ``observer.recorder.bind``.
        id_names: your own names for the id, such as ``("sim_id",)``, beside the platform's; see `record`.
        parameters: what a carrier's first message brought, if it was read before the observer was built: for example
            ``call_data["body"]`` of Pipecat's ``parse_telephony_websocket``. The id is looked for in it as well.
        options: passed on to Pipecat's ``BaseObserver``.

    Raises:
        MissingPipecatError: Pipecat is not installed.
        ValueError: ``id_from`` names an unknown place, or ``id_names`` cannot be names.
    """

    def __init__(
        self,
        transport: Any,
        *,
        client: Bluejay | None = None,
        id_from: tuple[IdSource, ...] = ("header",),
        id_names: tuple[str, ...] = (),
        parameters: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if not TYPE_CHECKING and BaseObserver is object:
            raise MissingPipecatError
        super().__init__(**options)
        self._calls = TransportCalls(transport, client, id_from, id_names, parameters)

    @property
    def recorder(self) -> Recorder:
        """The recorder of the call that is going on; the inert one when there is none."""
        return self._calls.recorder

    async def on_push_frame(self, data: FramePushed) -> None:
        """Take note of a frame; called by Pipecat."""
        self._calls.pushed(data)

    async def cleanup(self) -> None:
        """End what is left of the call; called by Pipecat when the pipeline is over."""
        await super().cleanup()  # type: ignore[no-untyped-call, unused-ignore]
        self._calls.end()


class TransportCalls:
    """The observer without Pipecat: it finds the call of a transport's connection, and hands it the frames."""

    def __init__(
        self,
        transport: Any,
        client: Bluejay | None = None,
        id_from: tuple[IdSource, ...] = ("header",),
        id_names: tuple[str, ...] = (),
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.recorder: Recorder = INERT
        self._transport = transport
        self._clients = default_client if client is None else lambda: client
        self._id_from = checked_sources(id_from, id_names)
        self._id_from_message = checked_sources((*id_from, "message"), id_names)
        self._parameters = parameters
        self._tap: PipecatTap | None = None
        self._call: Call | None = None
        self._before: Recorder = INERT  # what was current when the call began
        self._websocket: Any = None
        self._joined = False  # the call is somebody else's, who also ends it
        self._guarded(self._begin)

    def pushed(self, data: Any) -> None:
        """Take note of a frame on its way."""
        if self._tap is not None:
            self._guarded(self._tap.pushed, data)

    def end(self) -> None:
        """Record what is left, and let go of the call. Twice is once."""
        self._guarded(self._end)

    # -- the connection ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._transport.add_event_handler("on_client_connected", self._connected)
        self._transport.add_event_handler("on_client_disconnected", self._disconnected)
        if current_recorder().active:
            self._joined = True
            self._follow(current_recorder())
            return
        # FastAPI's connection is there already, and it is best observed from here: in the endpoint's own task.
        websocket = getattr(getattr(self._transport, "_client", None), "_websocket", None)
        if hasattr(websocket, "scope"):
            self._open(websocket, _STARLETTE)
        else:
            import_module(_WEBSOCKETS)  # now, and not while the first caller speaks

    def _connected(self, _: Any, websocket: Any) -> None:
        if not self._joined and websocket is not self._websocket:
            self._guarded(self._open_late, websocket)

    def _open_late(self, websocket: Any) -> None:
        self._end()  # releases before 1.4 let a new client take the place of the old one
        is_server = type(websocket).__module__.startswith("websockets.")
        self._open(websocket, _WEBSOCKETS if is_server else None)

    def _disconnected(self, _: Any, websocket: Any) -> None:
        if self._joined or websocket is self._websocket:
            self._guarded(self._drain, self._tap)

    def _drain(self, tap: PipecatTap | None) -> None:
        def end() -> None:
            if tap is self._tap:
                self.end()

        asyncio.get_running_loop().call_later(DRAIN, end)

    # -- the call ----------------------------------------------------------------------------------------------

    def _open(self, websocket: Any, adapter: str | None) -> None:
        """Open the call of a connection, if it has an id, or may get one."""
        self._websocket = websocket
        late = usable_id(self._ids()) is not None
        if adapter is None:
            headers = getattr(websocket, "headers", None)
            names = (ID_HEADER, *self._id_from.headers)
            values = next(filter(None, (header_values(headers, name) for name in names)), [])
            call = self._clients().open_call(values, server="pipecat", late_id=late) if values or late else None
        else:
            sources = self._id_from_message if late else self._id_from
            call = import_module(adapter).open_call(websocket, self._clients, sources)
        if call is None or not call.recorder.active:
            return
        self._call = call
        self._before = call.enter()
        self._follow(call.recorder)

    def _ids(self) -> list[str]:
        if self._parameters is None:
            return []
        message = json.dumps({"parameters": dict(self._parameters)}, default=str)
        return ids_in_message(message, self._id_from.names)

    def _follow(self, recorder: Recorder) -> None:
        late = usable_id(self._ids())
        if late is not None and recorder.simulation_result_id is None:
            recorder.bind(late)
        self.recorder = recorder
        self._tap = PipecatTap(recorder, output=self._transport.output(), later=self._later)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, functools.partial(self._guarded, action))

    def _end(self) -> None:
        tap, self._tap = self._tap, None
        call, self._call = self._call, None
        self._websocket = None
        try:
            if tap is not None:
                tap.close()
        finally:
            self.recorder = INERT
            if call is not None:
                call.leave(self._before)

    # -- errors of ours ----------------------------------------------------------------------------------------

    def _guarded(self, action: Callable[..., None], *args: Any) -> None:
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - no error of ours reaches Pipecat
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        try:
            self._clients().failed("pipecat", error, self.recorder.simulation_result_id)
        except Exception as worse:  # noqa: BLE001 - not even a client can be had: say it the plain way
            logger.error("calls are not recorded (%s): %s", type(worse).__name__, worse)  # noqa: TRY400
