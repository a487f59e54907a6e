"""Stand-ins of trading venues over loopback, written from the venues' own documents, for the tests of adapters.

`core` is the matching engine without a wire, `faults` the plan of what goes wrong on the way, `serving` the server;
`alpaca`, `binance`, `coinbase`, `fix` and `tws` speak the venues' languages. A test judges by `core.log`: what the
venue itself did, whatever the client believes.

    core = Core(cash="100000", instruments=["AAPL"])
    plan = FaultPlan(seed=1, rates={"drop_answer": 0.2, "duplicate": 0.1}, only="POST")
    with AlpacaVenue(core, faults=plan).serve() as url:
        ...  # the adapter sends its orders to url
        core.open_session("2024-01-02", {"AAPL": "101.37"})
        core.wait_for("fill", 3)
        core.close_session()
    assert core.accepted_twice() == []
"""
