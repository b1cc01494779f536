"""What a unit and the registry tell each other about attackers: prints one way, threat lists the other."""
