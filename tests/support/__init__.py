"""What the tests share: clients, servers and waiting."""
