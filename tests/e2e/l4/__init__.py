"""What is no HTTP: listeners whose bytes pass unread."""
