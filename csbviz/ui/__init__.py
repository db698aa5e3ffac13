"""The browser app: pages and components that call the library and never compute."""
