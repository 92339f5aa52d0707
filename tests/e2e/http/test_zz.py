from tests.harness import wire
def test_loop(lane):
    def script(exchange):
        exchange.send(wire.response(b"too large", status="413 Content Too Large"))
        exchange.wait_until_delivered()
        exchange.reset()
    lane.backend.script = script
    for i in range(1000):
        client = lane.connect()
        client.send_tolerating_close(lane.head("POST /zz%d" % i, "Content-Length: 3000000") + b"x" * 3000000)
        r=client.read_response()
        if r.status!=413: print(lane.backend.connections[-1].sent, lane.backend.failures); print(lane.gateway.daemon.log()[-6000:])
        assert r.status==413, i
        client.close()
