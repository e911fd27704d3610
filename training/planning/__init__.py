"""What a run would need, and whether the hosts are ready: nothing is trained here."""
