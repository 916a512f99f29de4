"""Starts and ends provider plugins: executables named by the project, or servicers of this process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import provider_pb2_grpc as pg

from engine.api import EngineError, Refused
from engine.project import HOW_TO_INSTALL, Project

# A partial create comes back with its properties in the metadata; Go, which the real engine is written in, takes 16 MB.
CHANNEL = (
    ("grpc.max_receive_message_length", 400 << 20),
    ("grpc.max_send_message_length", 400 << 20),
    ("grpc.max_metadata_size", 16 << 20),
    ("grpc.absolute_max_metadata_size", 16 << 20),
)
HANDSHAKE_SECONDS = 60.0
# A plugin must not outlive the engine: the kernel kills it when its parent's thread ends, however that ends.
_DIE_WITH_PARENT = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1,9)\n"
    "if os.getppid()!=int(sys.argv[1]):sys.exit(1)\n"
    "os.execv(sys.argv[2],sys.argv[2:])"
)
Source = pg.ResourceProviderServicer | Callable[[], pg.ResourceProviderServicer]


@dataclass
class Plugin:
    name: str
    stub: pg.ResourceProviderStub
    channel: grpc.Channel
    process: subprocess.Popen[str] | None = None
    server: grpc.Server | None = None
    listeners: list[threading.Thread] = field(default_factory=list)
    handshake: p.ProviderHandshakeResponse = field(default_factory=p.ProviderHandshakeResponse)

    def close(self) -> None:
        with contextlib.suppress(grpc.RpcError):  # it may be gone already
            self.stub.Cancel(empty_pb2.Empty(), timeout=2)
        self.channel.close()
        if self.server is not None:
            self.server.stop(None)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for listener in self.listeners:
            listener.join(timeout=2)  # a child of the plugin may hold the pipe open


class Plugins:
    """Starts a process from one thread that lives as long as the run: the death signal is tied to the thread."""

    def __init__(
        self,
        project: Project,
        given: Mapping[str, Source],
        engine_address: str,
        env: Mapping[str, str],
        on_line: Callable[[str, str], None],
    ) -> None:
        self._project, self._given, self._engine, self._env, self._on_line = (
            project,
            given,
            engine_address,
            env,
            on_line,
        )
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="plugins")
        self._open: list[Plugin] = []
        self._lock = threading.Lock()

    def start(self, name: str) -> Plugin:
        if name in self._given:
            plugin = self._serve(name, self._given[name])
        elif name in self._project.plugins:
            plugin = self._starter.submit(self._execute, name, self._project.plugins[name]).result()
        else:
            known = ", ".join(sorted({*self._given, *self._project.plugins})) or "none"
            raise Refused(
                f"provider '{name}': the embedded engine runs only plugins that Pulumi.yaml gives by path "
                f"(plugins.providers: {known}); "
                f"real clouds are for Pulumi itself. {HOW_TO_INSTALL}"
            )
        with self._lock:
            self._open.append(plugin)
        self._shake(plugin)
        return plugin

    def close(self) -> None:
        with self._lock:
            plugins, self._open = self._open, []
        for plugin in plugins:
            plugin.close()
        self._starter.shutdown()

    def _serve(self, name: str, source: Source) -> Plugin:
        servicer = source if isinstance(source, pg.ResourceProviderServicer) else source()
        server = grpc.server(ThreadPoolExecutor(16), options=CHANNEL)
        pg.add_ResourceProviderServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL)
        return Plugin(name, pg.ResourceProviderStub(channel), channel, server=server)

    def _execute(self, name: str, path: Path) -> Plugin:
        process = subprocess.Popen(
            [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), str(path), self._engine],
            cwd=self._project.folder,
            env=dict(self._env),
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the engine, which ends its steps in order
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        said: list[str] = []
        assert process.stdout is not None
        assert process.stderr is not None
        listeners = [
            threading.Thread(target=self._listen, args=(name, s, said), daemon=True)
            for s in (process.stderr, process.stdout)
        ]
        listeners[0].start()
        watch = threading.Timer(HANDSHAKE_SECONDS, process.kill)
        watch.start()
        first = process.stdout.readline().strip()
        watch.cancel()
        if not first.isdigit():
            process.kill()
            process.wait()
            process.stdout.close()
            listeners[0].join()
            told = "\n".join(said[-20:])
            raise EngineError(f"provider '{name}': {path} did not print its port but '{first}'\n{told}".rstrip())
        listeners[1].start()
        channel = grpc.insecure_channel(f"127.0.0.1:{first}", options=CHANNEL)
        return Plugin(name, pg.ResourceProviderStub(channel), channel, process=process, listeners=listeners)

    def _listen(self, name: str, stream: IO[str], said: list[str]) -> None:
        with stream:
            for line in stream:
                said.append(line.rstrip("\n"))
                self._on_line(name, line.rstrip("\n"))

    def _shake(self, plugin: Plugin) -> None:
        request = p.ProviderHandshakeRequest(
            engine_address=self._engine,
            root_directory=str(self._project.root),
            program_directory=str(self._project.folder),
            configure_with_urn=True,
        )
        try:
            plugin.handshake = plugin.stub.Handshake(request, timeout=HANDSHAKE_SECONDS, wait_for_ready=True)
        except grpc.RpcError as e:
            if e.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise EngineError(f"provider '{plugin.name}': the handshake failed: {e.details()}") from e
