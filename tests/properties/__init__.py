"""What holds for every message, packet, path and moment: properties of the whole gateway, bytes in and bytes out."""
