"""What has been done: journal, labels, lease."""
