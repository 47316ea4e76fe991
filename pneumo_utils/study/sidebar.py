"""A Sphinx extension: the theme folds the pages below another behind an arrow without a name; here the arrow says what it opens."""


def name_the_arrows(app, page, template, context, doctree) -> None:
    make = context["generate_toctree_html"]

    def named(*asked, **more):
        made = make(*asked, **more)
        for summary in made.find_all("summary") if made else []:
            summary["aria-label"] = f"Pages below {summary.find_parent('li').find('a').get_text(strip=True)}"
        return made

    context["generate_toctree_html"] = named


def setup(app) -> dict:
    app.connect("html-page-context", name_the_arrows, priority=900)  # behind the theme
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
