"""TLS in front of a socket: tls_front.py DIRECTORY SOCKET. Takes clients whose certificate DIRECTORY/ca.pem signed and that
agree on h2, as servers of gRPC do; prints its port."""

import pathlib
import socket
import ssl
import sys
import threading


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(context, client, path):
    client = context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
    try:
        client.do_handshake()
    except OSError:
        # What was not read would take the reason away from the client.
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass
        client.close()
        return
    if client.selected_alpn_protocol() != "h2":
        client.close()
        return
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    threading.Thread(target=copy, args=(server, client), daemon=True).start()
    copy(client, server)


def main():
    directory = pathlib.Path(sys.argv[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(context, client, sys.argv[2]), daemon=True).start()


main()
