"""Receives a topic over a stream, with Python's own library alone: python3 subscriber.py TOPIC [COUNT]. See docs/protocol.md."""
import glob, json, os, socket, struct, sys

topic, wanted = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else -1
bus = os.environ["IPC_BUS_DIR"]
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
for name in glob.glob(f"{bus}/{topic}@*.json"):  # those of the dead refuse
    with open(name) as file:
        record = json.load(file)
    if connection.connect_ex(f"{bus}/{record['id']}.sock") == 0:
        break
else:
    sys.exit(f"nobody publishes {topic} in {bus}")
hello = struct.pack("<4sHH16sQII24x", b"RBHS", 3, 1, bytes.fromhex(record["id"]), 2, os.getpid(), 1)
connection.send(hello)  # 2: a stream, please; 1: from the earliest on
answer = connection.recv(256)
if struct.unpack_from("<H", answer, 6)[0] != 10:
    sys.exit(f"refused: {answer[16:].rstrip(bytes(1)).decode()}")
position, = struct.unpack_from("<Q", answer, 32)
held, sequence, received = b"", 0, 0
while received != wanted and (datagram := connection.recv(65536)):
    kind, _, start = struct.unpack_from("<IIQ", datagram)
    if kind == 2:  # END: nothing will follow
        break
    if kind != 1:  # COUNTERS
        continue
    held = (held if start == position else b"") + datagram[16:]  # a gap: what was held is overwritten
    position = start + len(datagram) - 16
    while len(held) >= 8 and received != wanted:
        length, frame, headers = struct.unpack_from("<IHH", held)
        size = 24 if frame == 2 else 8 + (length + 7 & ~7)  # a batch's header, a message
        if len(held) < size:
            break
        if frame == 2:
            sequence, = struct.unpack_from("<Q", held, 8)
        elif frame == 1:
            print(sequence, held[8 : 8 + length - headers].decode())
            sequence, received = sequence + 1, received + 1
        held = held[size:]
    connection.send(struct.pack("<IIQQ48x", 4, 0, position - len(held), received))  # makes room
