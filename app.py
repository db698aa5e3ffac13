"""The app's entry: page configuration and navigation. Start it with ``streamlit run app.py``."""

import streamlit as st

ICON = "csbviz/ui/assets/icon.svg"

st.set_page_config(page_title="csbviz", page_icon=ICON, layout="wide")
st.logo(ICON, size="large")

PAGES = "csbviz/ui/pages"

page = st.navigation(
    [
        st.Page(f"{PAGES}/model.py", title="Model", icon=":material/deployed_code:", default=True),
        st.Page(f"{PAGES}/prune.py", title="Prune", icon=":material/content_cut:"),
        st.Page(f"{PAGES}/accuracy.py", title="Accuracy", icon=":material/fact_check:"),
        st.Page(f"{PAGES}/sparsity.py", title="Sparsity", icon=":material/grain:"),
        st.Page(f"{PAGES}/layout.py", title="CSB layout", icon=":material/grid_on:"),
        st.Page(f"{PAGES}/balance.py", title="Balance", icon=":material/balance:"),
        st.Page(f"{PAGES}/run.py", title="Run", icon=":material/speed:"),
    ],
    position="top",
)
page.run()
