"""What must we never hold? It may veto the portfolio; the portfolio never imports it"""
