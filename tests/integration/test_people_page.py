"""The page in a real browser, as each role: who signs in, what is offered to them, and what administrators do there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dicom_node.api.server import ApiServer, create_app
from dicom_node.core.principal import Permission, Principal, UserRole
from dicom_node.people.directory import People
from tests.peers.browser import Browser, running_browser
from tests.support.api_client import parts_over, seeded_database
from tests.support.results.seeded import CHEST_CT

PASSWORD = "seven blue herons"
OTHER = "nine slow turbines"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, People]]:
    """The address of a page, and its people: one for each role."""
    folder = tmp_path_factory.mktemp("page")
    database = seeded_database(folder, datetime.now(UTC))
    app = create_app(parts_over(database, folder))
    people: People = app.state.access.people
    for role in UserRole:
        people.accounts.add(role, [role], PASSWORD)
    server = ApiServer(app, "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/", people
    server.stop()
    database.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def fill(browser: Browser, **values: str) -> None:
    for name, value in values.items():
        browser.run(f"document.getElementById({json.dumps(name.replace('_', '-'))}).value = {json.dumps(value)}")


def sign_in(browser: Browser, address: str, name: str, password: str = PASSWORD) -> None:
    browser.open("about:blank")
    browser.send("Network.clearBrowserCookies")
    browser.complaints.clear()
    browser.open(address)
    browser.wait_for("!document.querySelector('#login').hidden")
    fill(browser, name=name, password=password)
    browser.click("#login-form button")


def signed_in(browser: Browser, name: str) -> None:
    browser.wait_for(
        f"!document.querySelector('#app').hidden && document.querySelector('#to-account').textContent == '{name}'"
    )


def shown(browser: Browser, selector: str) -> bool:
    return bool(browser.run(f"document.querySelector({json.dumps(selector)})?.offsetParent != null"))


@pytest.mark.parametrize("role", UserRole)
def test_each_role_is_offered_what_it_may_do_and_no_more(
    browser: Browser, site: tuple[str, People], role: UserRole
) -> None:
    address, _ = site
    somebody = Principal(role, frozenset({role}))
    sign_in(browser, address, role)
    signed_in(browser, role)
    browser.run(f"location.hash = '#/study/{CHEST_CT}'")
    browser.wait_for(f"document.querySelector('#detail .uid')?.textContent == '{CHEST_CT}'")
    operates = somebody.may(Permission.OPERATE)
    assert shown(browser, "#rerun-study") == operates
    assert bool(browser.run("document.querySelectorAll('[id^=retry-], [id^=discard-]').length")) == operates
    assert shown(browser, "#to-people") == somebody.may(Permission.ADMINISTER)
    answered = browser.run("fetch('/api/users').then(answer => answer.status)")
    assert answered == (200 if somebody.may(Permission.ADMINISTER) else 403)
    assert [one for one in browser.complaints if "403" not in one and "401" not in one] == []
    assert PASSWORD not in browser.run("document.documentElement.outerHTML")


def test_a_wrong_password_is_told_and_the_focus_is_where_one_types(browser: Browser, site: tuple[str, People]) -> None:
    address, _ = site
    sign_in(browser, address, "viewer", "wrong")
    browser.wait_for("document.querySelector('#login-error').textContent.includes('Name or password is wrong')")
    assert browser.run("document.activeElement.id") == "name"
    assert browser.run("[...document.querySelectorAll('#login input')].every(one => one.labels.length == 1)")
    assert browser.run("[...document.querySelectorAll('main')].filter(one => one.offsetParent).length") == 1


def test_an_administrator_manages_people_and_keys(browser: Browser, site: tuple[str, People]) -> None:
    address, people = site
    sign_in(browser, address, "admin")
    signed_in(browser, "admin")
    browser.click("#to-people")
    browser.wait_for("document.querySelector('#add-user')")
    fill(browser, user_name="carol", user_password=PASSWORD)
    browser.click("#user-roles [value=reviewer]")
    browser.click("#add-user button")
    browser.wait_for("document.querySelector('#disable-carol')")
    assert people.accounts.get("carol").roles == {UserRole.REVIEWER}

    browser.run("document.querySelector('[data-key=roles-carol]').open = true")
    browser.click("[name=of-carol-role][value=operator]")
    browser.click("#roles-form-carol button")
    browser.wait_for("document.body.innerText.includes('operator, reviewer')")
    browser.click("#disable-carol")
    browser.wait_for("document.querySelector('#ask').open")
    browser.click("#ask-yes")
    browser.wait_for("document.querySelector('#enable-carol')")
    assert people.accounts.get("carol").disabled_at is not None

    fill(browser, key_name="ris", key_days="30")
    browser.click("#key-roles [value=operator]")
    browser.click("#add-key button")
    browser.wait_for("document.querySelector('#new-secret')")
    found = people.keys.find(str(browser.run("document.querySelector('#new-secret').textContent")))
    assert found is not None
    assert found.created_by == "admin"
    browser.click("#revoke-ris")
    browser.wait_for("document.querySelector('#ask').open")
    browser.click("#ask-yes")
    browser.wait_for("!document.querySelector('#revoke-ris')")
    assert not browser.run("document.querySelector('#new-secret')")

    browser.click("#remove-admin")
    browser.wait_for("document.querySelector('#ask').open")
    browser.click("#ask-yes")
    browser.wait_for("document.querySelector('#toast').innerText.includes('last who can administer')")
    assert browser.run(
        "[...document.querySelectorAll('#detail input:not([type=checkbox])')].every(one => one.labels.length == 1)"
    )
    assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_one_changes_one_s_own_password_and_signs_out_everywhere(browser: Browser, site: tuple[str, People]) -> None:
    address, people = site
    sign_in(browser, address, "viewer")
    signed_in(browser, "viewer")
    browser.click("#to-account")
    browser.wait_for("document.querySelector('#own-password')")
    fill(browser, current_password=PASSWORD, own_new_password=OTHER)
    browser.click("#own-password button")
    browser.wait_for("document.querySelector('#toast').innerText == 'Changed.'")
    assert browser.run("fetch('/api/me').then(answer => answer.status)") == 200
    browser.wait_for("document.querySelector('#own-new-password').value == ''")
    browser.click("#sign-out-everywhere")
    browser.wait_for("!document.querySelector('#login').hidden")
    assert browser.run("fetch('/api/me').then(answer => answer.status)") == 401
    sign_in(browser, address, "viewer", OTHER)
    signed_in(browser, "viewer")
    people.accounts.set_password("viewer", PASSWORD)


def test_what_somebody_types_is_not_wiped_by_news(browser: Browser, site: tuple[str, People]) -> None:
    address, _ = site
    sign_in(browser, address, "operator")
    signed_in(browser, "operator")
    browser.click("#to-account")
    browser.wait_for("document.querySelector('#own-password')")
    fill(browser, current_password="half a pass")
    browser.run("document.querySelector('#tiles').replaceChildren()")
    browser.run("document.querySelector('#state').dispatchEvent(new Event('change', {bubbles: true}))")
    browser.wait_for("document.querySelector('#tiles').children.length")  # all of it is shown anew
    assert browser.run("document.querySelector('#current-password').value") == "half a pass"
