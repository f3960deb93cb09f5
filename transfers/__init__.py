"""What goes between people and volumes and is too long for one request: uploads on their way, downloads on theirs."""
