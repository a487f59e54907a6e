"""How do brokers and exchanges speak? Chosen by name, never imported by `execution`"""
