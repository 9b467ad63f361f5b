"""What people read. Pure: everything here turns records into text."""
